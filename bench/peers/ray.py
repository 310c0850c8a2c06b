"""Ray Serve: https://docs.ray.io/en/latest/serve, "Performance Tuning", "Dynamic Request Batching",
"Enable High Throughput on Ray Serve".

The advice: HAProxy in front and the throughput mode (both set in the table's environment), a
replica a core, ``serve.batch`` inside the replica, and no ingress deployment before it.
"""

import os
import time

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from bench.peers.model import BATCH, WAIT_MS, Model


@serve.deployment(
    num_replicas=int(os.environ["BENCH_WORKERS"]),
    max_ongoing_requests=1024,
    ray_actor_options={"num_cpus": 1},
)
class Generate:
    def __init__(self) -> None:
        self.model = Model()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT_MS / 1e3)
    async def batch(self, wanted: list[dict[str, int]]) -> list[bytes]:
        return self.model.answer(wanted)

    async def __call__(self, request: Request) -> Response:
        return Response(await self.batch(await request.json()), media_type="image/png")


if __name__ == "__main__":
    host, port = os.environ["BENCH_HOST"], int(os.environ["BENCH_PORT"])
    ray.init(
        num_cpus=int(os.environ["BENCH_WORKERS"]) + 1,  # the controller asks for none, to be safe
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        _node_ip_address=host,
        _temp_dir=os.environ["TMPDIR"],
        log_to_driver=False,
    )
    serve.start(http_options=serve.HTTPOptions(host=host, port=port, access_log=False))
    serve.run(Generate.bind())  # type: ignore[attr-defined]  # the decorator made it a Deployment
    while True:
        time.sleep(3600)
