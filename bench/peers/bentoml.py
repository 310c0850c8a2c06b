"""BentoML: https://docs.bentoml.com, "Workers", "Concurrency", "Adaptive batching".

The advice: a worker a core, ``batchable`` for a model that gains from batches, and an endpoint that
is a coroutine where nothing blocks for long. A batchable endpoint answers lists alone, so no PNG,
and was no faster here (250 requests/s each at 64 connections): the dispatcher costs what it saves.
"""

import os
from typing import Annotated

from bentoml import api, service
from bentoml.validators import ContentType

from bench.peers.model import Model


@service(
    workers=int(os.environ["BENCH_WORKERS"]),
    traffic={"timeout": 30},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Generate:
    def __init__(self) -> None:
        self.model = Model()

    @api
    async def generate(self, label: int, n: int) -> Annotated[bytes, ContentType("image/png")]:
        return self.model.answer([{"label": label, "n": n}])[0]
