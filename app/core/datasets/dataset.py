"""Datasets: any number of labelled images as one archive, generated while it is sent.

Images are generated in batches of the model's largest size. A few batches are requested ahead, so
that the model works while one is written. A client that reads slowly, or not at all, holds up this
work and takes no memory. Rows wait for those of all other requests (``app.batching.batcher``).
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Hashable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from app.core.clients import current_client
from app.core.datasets.files import Dataset, write_npz, write_zip
from app.core.service import Service
from app.engines.rows import Image, OperationKey
from app.errors import OverloadedError, OverShareError
from app.formats.media_types import ZIP

_AHEAD = 2  # batches requested beside the one that is written: one in the model, one behind it


@dataclass(eq=False)
class _Job:
    """A dataset that is being generated."""

    key: OperationKey
    remaining: int  # images
    client: Hashable


class DatasetGenerator:
    """Generates datasets, a few at a time.

    Args:
        limit: Most at a time.
        max_share: Of those that other clients leave, how many one client may have (dynamic
            thresholds, as in ``app.batching.admission``); it may always have one. 1 = all.
    """

    def __init__(self, limit: int, max_share: float = 1.0) -> None:
        self._limit = limit
        self._max_share = max_share
        self._jobs: set[_Job] = set()

    async def archive(
        self, service: Service, dataset: Dataset, media: str
    ) -> AsyncGenerator[bytes, None]:
        """The parts of a dataset's file; closing the generator stops the work.

        Args:
            service: Generates the images.
            dataset: The dataset.
            media: ZIP or NPZ.

        Raises:
            OverloadedError, OverShareError: the limit is reached, or the client's share of it;
                nothing was begun.
            ServiceError: as ``Service.generate_in_background``; the file is incomplete then.
        """
        with service.track_request(None), self._job(service, dataset) as job:
            async with aclosing(_batches(service, dataset, job)) as batches:
                write = write_zip if media == ZIP else write_npz
                async with aclosing(write(dataset, batches)) as parts:
                    async for part in parts:
                        yield part

    @contextmanager
    def _job(self, service: Service, dataset: Dataset) -> Iterator[_Job]:
        client, total = current_client.get(), len(self._jobs)
        own = 0 if client is None else sum(job.client == client for job in self._jobs)
        over_share = own and own + 1 > self._max_share * (self._limit - (total - own))
        if total >= self._limit or over_share:
            rates = service.batcher.admission.rates
            soonest_s = min(job.remaining / max(rates[job.key], 1.0) for job in self._jobs)
            retry_after_s = max(1, math.ceil(soonest_s))
            if total < self._limit:
                raise OverShareError.of_datasets(own, self._limit, retry_after_s)
            raise OverloadedError(
                f"{total} datasets are being generated, the most at a time; "
                f"try again in {retry_after_s} s",
                retry_after_s=retry_after_s,
            )
        job = _Job((dataset.model.name, "generate"), dataset.count, client)
        self._jobs.add(job)
        try:
            yield job
        finally:
            self._jobs.discard(job)


async def _batches(
    service: Service, dataset: Dataset, job: _Job
) -> AsyncGenerator[list[Image], None]:
    """The images in order, a batch at a time."""
    size = service.engine.plans[dataset.model.name, "generate"].max_batch
    starts = iter(range(0, dataset.count, size))
    requested: deque[asyncio.Task[list[Image]]] = deque()

    def request_next() -> None:
        if (start := next(starts, None)) is not None:
            samples = dataset.samples(start, start + size)
            work = service.generate_in_background(dataset.model, samples)
            requested.append(asyncio.create_task(work))

    try:
        for _ in range(_AHEAD):
            request_next()
        while requested:
            images = await requested[0]
            requested.popleft()
            request_next()  # now: the model must not wait until this batch is written
            job.remaining -= len(images)
            yield images
    finally:
        for task in requested:
            task.cancel()
        await asyncio.gather(*requested, return_exceptions=True)
