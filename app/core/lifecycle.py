"""The service from its first request to its last: its batcher around the models, and the drain."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from app.batching.batcher import Batcher
from app.batching.operation_queue import QueueConfig
from app.codec.fork_server import ForkServer
from app.codec.pool import CodecPool
from app.core.pictures import Pictures, decoding_limits, pool_limits
from app.core.service import Service
from app.core.telemetry.metrics import Metrics
from app.core.telemetry.tracing import Tracing
from app.engines.backend import DeviceLostError
from app.engines.engine import Engine
from app.engines.loading import LoadedModels
from app.engines.rows import OperationKey, Result, Row
from app.settings import Settings

log = logging.getLogger(__name__)

_POLL_S = 0.02


@asynccontextmanager
async def serving(
    loaded: LoadedModels,
    settings: Settings,
    metrics: Metrics,
    aliases: Mapping[str, str],
    tracing: Tracing | None = None,
    fork_server: ForkServer | None = None,
) -> AsyncIterator[Service]:
    """A service that accepts requests; accepted ones are finished before this ends.

    Args:
        loaded: The models.
        settings: Of the service.
        metrics: That it counts in.
        aliases: Further names of models.
        tracing: Of spans; None = none.
        fork_server: Forks the codec's processes; None = one is started when it is needed.
    """
    engine, refused = loaded
    if tracing:
        tracing.start()
    engine.start_thread()  # short calls run in this thread
    metrics.refused_files(len(refused))
    metrics.expect_operations(engine.plans)
    for name, model in engine.models.items():
        metrics.card(name, model.description.metrics)
    batcher: Batcher[OperationKey, Row, Result] = Batcher(
        engine.run,
        ThreadPoolExecutor(1, "model", initializer=engine.start_thread),
        operations=_queues(engine),
        max_wait_s=settings.max_wait_ms / 1e3,
        queue_limit=settings.queue_limit,
        max_queue_s=settings.max_queue_ms / 1e3,
        target_s=settings.queue_target_ms / 1e3,
        max_share=settings.max_share,
        hang_s=settings.hang_seconds,
        fatal=(DeviceLostError,),
        on_batch=metrics.batch,
        on_drop=metrics.dropped,
        on_traced=tracing.batch if tracing else None,
    )
    pool = CodecPool(pool_limits(settings), fork_server, metrics, batcher.clock)
    pool.start()
    try:
        pictures = Pictures(pool, decoding_limits(settings))
        service = Service(engine, batcher, metrics, settings, refused, aliases, pictures)
        for line in service.selector.open_choices():
            log.warning(line)
        yield service
    finally:
        await batcher.close()
        await pool.close()
        if tracing:
            tracing.close()


def _queues(engine: Engine) -> dict[OperationKey, QueueConfig]:
    """A queue for each operation of a model, with the best rate that the start-up probe measured.

    The batcher measures every call from then on.
    """
    return {
        key: QueueConfig(
            plan.max_batch, max(size / seconds for size, seconds in plan.costs), plan.inline_rows
        )
        for key, plan in engine.plans.items()
    }


async def drain(
    service: Service, delay_s: float, limit_s: float, forced: Callable[[], bool]
) -> None:
    """Accept work for ``delay_s`` more, then none, and return when all accepted work is done.

    Args:
        service: Its readiness turns red at once.
        delay_s: How long a load balancer takes to notice that.
        limit_s: How long to wait, after that, for accepted work.
        forced: Return at once when this is true.
    """
    service.health.draining = True
    await wait(delay_s, forced)
    service.stopping = True
    await wait(limit_s, lambda: not service.in_flight or forced())


async def wait(limit_s: float, until: Callable[[], bool]) -> None:
    """Wait until something is true, at most so long.

    Polls, as uvicorn does, since what is waited for changes in signal handlers.
    """
    ends = time.monotonic() + limit_s
    while time.monotonic() < ends and not until():  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)
