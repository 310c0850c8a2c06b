"""Mosec: https://mosecorg.github.io/mosec, "Performance tuning" and the examples.

A Rust front hands batches to worker processes over a Unix socket. The advice: measure batch size
and wait, as ``sweep`` does.
"""

import json
import os
from typing import Any

from mosec import Server, Worker

from bench.peers.model import BATCH, WAIT_MS, Model


class Generate(Worker):
    resp_mime_type = "image/png"

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    def deserialize(self, data: bytes) -> Any:
        return json.loads(data)

    def forward(self, data: list[dict[str, int]]) -> list[bytes]:
        return self.model.answer(data)

    def serialize(self, data: bytes) -> bytes:
        return data


if __name__ == "__main__":
    os.environ["MOSEC_ADDRESS"] = os.environ["BENCH_HOST"]
    os.environ["MOSEC_PORT"] = os.environ["BENCH_PORT"]
    os.environ["MOSEC_LOG_LEVEL"] = "warning"
    server = Server()
    workers = int(os.environ["BENCH_WORKERS"])
    server.append_worker(Generate, num=workers, max_batch_size=BATCH, max_wait_time=WAIT_MS)
    server.run()
