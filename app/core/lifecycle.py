"""The service at work: its batcher around the models, from the first request to the last."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from app.batching.batcher import Batcher
from app.core.metrics import Metrics
from app.core.service import Service, measured_lanes
from app.engines.backend import DeviceLostError
from app.engines.loading import LoadedModels
from app.engines.rows import OperationKey, Result, Row
from app.settings import Settings


@asynccontextmanager
async def running(
    prepared: LoadedModels, settings: Settings, metrics: Metrics
) -> AsyncIterator[Service]:
    """A service that takes requests; what was accepted is finished before it ends.

    Args:
        prepared: The models.
        settings: Of the service.
        metrics: What it counts in.
    """
    engine, refused = prepared
    engine.start_thread()  # short calls are made here
    metrics.refused_files.set(len(refused))
    batcher: Batcher[OperationKey, Row, Result] = Batcher(
        engine.run,
        ThreadPoolExecutor(1, "model", initializer=engine.start_thread),
        lanes=measured_lanes(engine),
        max_wait_s=settings.max_wait_ms / 1e3,
        queue_limit=settings.queue_limit,
        max_queue_s=settings.max_queue_ms / 1e3,
        max_share=settings.max_share,
        hang_s=settings.hang_seconds,
        fatal=(DeviceLostError,),
        on_batch=metrics.batch,
        on_drop=metrics.dropped,
    )
    try:
        yield Service(engine, batcher, metrics, settings, refused)
    finally:
        await batcher.close()
