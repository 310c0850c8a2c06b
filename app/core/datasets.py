"""Datasets: any number of labelled images as one archive, made while it is sent.

Images come in tiles of one batch. A few tiles are asked for ahead, so that the model works while
one is written; whoever takes the parts slowly, or not at all, holds up this work and takes no
memory for it. The rows go to the model behind those of all other requests
(``app.batching.batcher``).
"""

import asyncio
import math
import zlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.core.service import Service
from app.engines.rows import Image, OperationKey, Sample
from app.engines.store import StoredModel
from app.errors import OverloadedError
from app.formats.manifest import MANIFEST_HEADER, MANIFEST_NAME, Manifest
from app.formats.media_types import ZIP
from app.formats.npy import npy_header
from app.formats.pixels import pixel_bytes
from app.formats.png import to_png
from app.formats.provenance import GENERATED, MetadataLevel, PictureMetadata, recipe_start
from app.formats.zip_stream import ZipStream

_AHEAD = 2  # tiles asked for beside the one that is written: one in the model and one behind it
_SLICE = 16  # images encoded before the event loop may do something else, about half a millisecond
_ROWS = 1024  # lines of the list, and _NUMBERS labels or seeds, in one part
_NUMBERS = 65536

Tiles = AsyncIterator[list[Image]]


@dataclass(frozen=True)
class Dataset:
    """What is to be made: image i of it is what ``generate`` makes of ``samples(i, i + 1)``."""

    model: StoredModel
    label: int | None  # of all; None = i mod classes, or none of an unconditional model
    seeds: range  # one an image
    metadata: MetadataLevel = "mark"

    def told(self, index: int) -> PictureMetadata:
        """What the picture of one image says of itself."""
        if self.metadata == "none":
            return PictureMetadata()
        if self.metadata == "mark":
            return PictureMetadata(GENERATED)
        name, digest = self.model.name, self.model.description.digest
        start = recipe_start(name, digest, self.label_of(index), 1.0, "grid", 1)
        return PictureMetadata(GENERATED, start, str(self.seeds[index]))

    def samples(self, start: int, stop: int) -> list[Sample]:
        """Images ``start`` to ``stop``."""
        return [
            Sample(self.seeds[index], self.label_of(index))
            for index in range(start, min(stop, len(self.seeds)))
        ]

    def label_of(self, index: int) -> int | None:
        """The label of one image."""
        classes = self.model.network.num_classes
        return index % classes if self.label is None and classes else self.label


@dataclass(eq=False)
class _Running:
    lane: OperationKey
    left: int  # images


class Datasets:
    """Those that are being made now.

    Args:
        most: At a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: set[_Running] = set()

    async def archive(
        self, service: Service, dataset: Dataset, media: str
    ) -> AsyncGenerator[bytes, None]:
        """The parts of a dataset's file; closing the generator stops the work.

        Args:
            service: What makes the images.
            dataset: Which.
            media: ZIP or NPZ.

        Raises:
            OverloadedError: too many are being made; nothing was begun.
            ServiceError: as ``Service.generate_behind``. What was given is not a whole file then.
        """
        with service.accepted(None), self._place(service, dataset) as running:
            async with aclosing(_tiles(service, dataset, running)) as tiles:
                write = _zip if media == ZIP else _npz
                async with aclosing(write(dataset, tiles)) as parts:
                    async for part in parts:
                        yield part

    @contextmanager
    def _place(self, service: Service, dataset: Dataset) -> Iterator[_Running]:
        if len(self._running) >= self._most:
            rates = service.batcher.admission.rates
            soonest_s = min(run.left / max(rates[run.lane], 1.0) for run in self._running)
            retry_after_s = max(1, math.ceil(soonest_s))
            raise OverloadedError(
                f"{len(self._running)} datasets are being made, the most at a time; "
                f"try again in {retry_after_s} s",
                retry_after_s=retry_after_s,
            )
        running = _Running((dataset.model.name, "generate"), len(dataset.seeds))
        self._running.add(running)
        try:
            yield running
        finally:
            self._running.discard(running)


async def _tiles(
    service: Service, dataset: Dataset, running: _Running
) -> AsyncGenerator[list[Image], None]:
    """The images in order, a batch at a time."""
    size = service.engine.plans[dataset.model.name, "generate"].max_batch
    starts = iter(range(0, len(dataset.seeds), size))
    asked: deque[asyncio.Task[list[Image]]] = deque()

    def ask() -> None:
        if (start := next(starts, None)) is not None:
            samples = dataset.samples(start, start + size)
            asked.append(asyncio.create_task(service.generate_behind(dataset.model, samples)))

    try:
        for _ in range(_AHEAD):
            ask()
        while asked:
            images = await asked[0]
            asked.popleft()
            ask()  # now: the model must not wait until this tile is written
            running.left -= len(images)
            yield images
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _zip(dataset: Dataset, tiles: Tiles) -> AsyncGenerator[bytes, None]:
    """A PNG an image, then the list of them."""
    manifest = Manifest(dataset.model.description.labels)
    count = len(dataset.seeds)

    def name(number: int) -> bytes:
        if number == count:
            return MANIFEST_NAME
        return manifest.path(number, dataset.label_of(number)).encode()

    def rows(start: int, stop: int) -> bytes:
        lines = [
            manifest.row(index, dataset.label_of(index), dataset.seeds[index])
            for index in range(start, min(stop, count))
        ]
        return "".join(lines).encode()

    archive = ZipStream(name)
    # The list is written twice: here for its checksum, which stands in front of it, and again at
    # the end, so that it is not kept.
    listed, checksum, size = 0, zlib.crc32(MANIFEST_HEADER), len(MANIFEST_HEADER)
    async for images in tiles:
        members = []
        for index, image in enumerate(images, listed):
            members.append(archive.member(to_png(image, chunks=dataset.told(index).png())))
            if index % _SLICE == 0:
                await asyncio.sleep(0)
        text = rows(listed, listed + len(images))
        listed += len(images)
        checksum, size = zlib.crc32(text, checksum), size + len(text)
        yield b"".join(members)
    yield archive.begin(size, checksum) + MANIFEST_HEADER
    for start in range(0, count, _ROWS):
        yield rows(start, start + _ROWS)
    for piece in archive.close():
        yield piece


@dataclass(frozen=True)
class _Array:
    """A member of an NPZ file."""

    name: bytes
    shape: tuple[int, ...]
    dtype: str

    @property
    def header(self) -> bytes:
        return npy_header(self.shape, self.dtype)

    @property
    def size(self) -> int:
        return len(self.header) + math.prod(self.shape) * np.dtype(self.dtype).itemsize


def _arrays(dataset: Dataset) -> list[_Array]:
    """images, labels where there are any, and seeds."""
    channels, height, width = dataset.model.network.image_shape
    count = len(dataset.seeds)
    colour = () if channels == 1 else (channels,)
    arrays = [
        _Array(b"images.npy", (count, height, width, *colour), "|u1"),
        _Array(b"labels.npy", (count,), "<i8"),
        _Array(b"seeds.npy", (count,), "<i8"),
    ]
    if not dataset.model.network.num_classes:
        del arrays[1]
    return arrays


def npz_size(dataset: Dataset) -> int:
    """Bytes of a dataset's NPZ file."""
    arrays = _arrays(dataset)
    archive = ZipStream(lambda number: arrays[number].name)
    for array in arrays:
        archive.begin(array.size)
        archive.end(0)
    for _ in archive.close():
        pass
    return archive.size


async def _npz(dataset: Dataset, tiles: Tiles) -> AsyncGenerator[bytes, None]:
    """Arrays as numpy's ``savez`` writes them."""
    arrays = _arrays(dataset)
    archive = ZipStream(lambda number: arrays[number].name)
    images, *others = arrays
    checksum = zlib.crc32(images.header)
    yield archive.begin(images.size) + images.header
    async for tile in tiles:
        part = pixel_bytes(tile)
        checksum = zlib.crc32(part, checksum)
        yield part
    yield archive.end(checksum)
    for array in others:
        numbers = _seeds if array.name == b"seeds.npy" else _labels
        checksum = zlib.crc32(array.header)
        yield archive.begin(array.size) + array.header
        for start in range(0, len(dataset.seeds), _NUMBERS):
            stop = min(start + _NUMBERS, len(dataset.seeds))
            part = numbers(dataset, np.arange(start, stop, dtype="<i8")).tobytes()
            checksum = zlib.crc32(part, checksum)
            yield part
        yield archive.end(checksum)
    for piece in archive.close():
        yield piece


def _seeds(dataset: Dataset, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    return indices + dataset.seeds.start


def _labels(dataset: Dataset, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    if dataset.label is not None:
        return np.full_like(indices, dataset.label)
    return indices % dataset.model.network.num_classes
