"""LitServe: https://lightning.ai/docs/litserve, "Batching" and "Scale".

The advice: batches for a model that gains from them, workers a device for more of it, and as many
API servers as there is HTTP to do; fast_queue (ZeroMQ) for high rates.
"""

import os
from typing import Any

import litserve
from starlette.responses import Response

from bench.peers.model import BATCH, WAIT_MS, Model


class Generate(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        self.model = Model()

    def decode_request(self, request: dict[str, int]) -> dict[str, int]:
        return request

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, wanted: list[dict[str, int]]) -> list[bytes]:
        return self.model.answer(wanted)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="image/png")


if __name__ == "__main__":
    workers = int(os.environ["BENCH_WORKERS"])
    server = litserve.LitServer(
        Generate(max_batch_size=BATCH, batch_timeout=WAIT_MS / 1e3),
        accelerator="cpu",
        devices=1,
        workers_per_device=workers,
        fast_queue=True,
        disable_openapi_url=True,
    )
    server.run(
        host=os.environ["BENCH_HOST"],
        port=int(os.environ["BENCH_PORT"]),
        num_api_servers=workers,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
