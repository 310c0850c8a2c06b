"""A dataset's content, and its file: a ZIP of PNGs with a list, or an NPZ of arrays."""

import asyncio
import math
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.core.datasets.seed_streams import stream_seeds
from app.engines.rows import Image, Sample
from app.engines.store import StoredModel
from app.formats.manifest import MANIFEST_HEADER, MANIFEST_NAME, Manifest
from app.formats.npy import npy_header
from app.formats.pixels import pixel_bytes
from app.formats.png import to_png
from app.formats.provenance import GENERATED, MetadataLevel, PictureMetadata, recipe_start
from app.formats.zip_stream import ZipStream

_SLICE = 2**14  # bytes of images encoded in one turn of the event loop: about half a millisecond
_ROWS = 1024  # lines of the list in one part of the file
_NUMBERS = 65536  # labels or seeds in one part
_PIECE = 65536  # bytes of pixels compressed before other tasks may run: half a millisecond

Batches = AsyncIterator[list[Image]]


@dataclass(frozen=True)
class Dataset:
    """What to generate: image i is the one that /generate returns for ``samples(i, i + 1)``."""

    model: StoredModel
    label: int | None  # of all; None = i mod classes, or none of an unconditional model
    seed: int  # of the data set: it opens a stream of seeds, one an image
    count: int  # of images
    split: str = ""  # one of ``SPLITS``
    metadata: MetadataLevel = "mark"
    compress: bool = False  # the members of its file

    def seeds(self, start: int, stop: int) -> NDArray[np.int64]:
        """The seeds of images ``start`` to ``stop``, as far as there are any."""
        return stream_seeds(self.seed, self.split, start, min(stop, self.count))

    def picture_metadata(self, index: int, seed: int) -> PictureMetadata:
        """What the file of one image says of itself."""
        if self.metadata == "none":
            return PictureMetadata()
        if self.metadata == "mark":
            return PictureMetadata(GENERATED)
        name, digest = self.model.name, self.model.description.digest
        start = recipe_start(name, digest, self.label_of(index), 1.0, "grid", 1)
        return PictureMetadata(GENERATED, start, str(seed))

    def samples(self, start: int, stop: int) -> list[Sample]:
        """The rows of images ``start`` to ``stop``, as far as there are any."""
        return [
            Sample(seed, self.label_of(index))
            for index, seed in enumerate(self.seeds(start, stop).tolist(), start)
        ]

    def label_of(self, index: int) -> int | None:
        """The label of one image."""
        classes = self.model.network.num_classes
        return index % classes if self.label is None and classes else self.label


async def write_zip(dataset: Dataset, batches: Batches) -> AsyncGenerator[bytes, None]:
    """A PNG an image, then the list of them."""
    manifest = Manifest(dataset.model.description.labels)
    count = dataset.count

    def path(number: int) -> bytes:
        if number == count:
            return MANIFEST_NAME
        return manifest.path(number, dataset.label_of(number)).encode()

    def rows(start: int, stop: int) -> bytes:
        lines = [
            manifest.row(index, dataset.label_of(index), seed)
            for index, seed in enumerate(dataset.seeds(start, stop).tolist(), start)
        ]
        return "".join(lines).encode()

    archive = ZipStream(path, dataset.compress)
    # The list is made twice: here for its checksum, which precedes it, and again at the end, so
    # that it need not be kept.
    listed, checksum, size = 0, zlib.crc32(MANIFEST_HEADER), len(MANIFEST_HEADER)
    async for images in batches:
        members, size_of_slice = [], 0
        seeds = dataset.seeds(listed, listed + len(images)).tolist()
        for index, (image, seed) in enumerate(zip(images, seeds, strict=True), listed):
            png = to_png(image, chunks=dataset.picture_metadata(index, seed).png())
            members.append(archive.member(png))
            size_of_slice += image.size
            if size_of_slice >= _SLICE:
                size_of_slice = 0
                await asyncio.sleep(0)
        text = rows(listed, listed + len(images))
        listed += len(images)
        checksum, size = zlib.crc32(text, checksum), size + len(text)
        yield b"".join(members)
    yield archive.begin(size, checksum) + archive.write(MANIFEST_HEADER)
    for start in range(0, count, _ROWS):
        yield archive.write(rows(start, start + _ROWS))
    yield archive.end(checksum)
    for piece in archive.close():
        yield piece


@dataclass(frozen=True)
class _Array:
    """A member of an NPZ file."""

    path: bytes
    shape: tuple[int, ...]
    dtype: str

    @property
    def header(self) -> bytes:
        return npy_header(self.shape, self.dtype)

    @property
    def size(self) -> int:
        return len(self.header) + math.prod(self.shape) * np.dtype(self.dtype).itemsize


def _arrays(dataset: Dataset) -> list[_Array]:
    """Images, labels where the model has classes, and seeds."""
    channels, height, width = dataset.model.network.image_shape
    count = dataset.count
    colour = () if channels == 1 else (channels,)
    arrays = [
        _Array(b"images.npy", (count, height, width, *colour), "|u1"),
        _Array(b"labels.npy", (count,), "<i8"),
        _Array(b"seeds.npy", (count,), "<i8"),
    ]
    if not dataset.model.network.num_classes:
        del arrays[1]
    return arrays


def npz_size(dataset: Dataset) -> int | None:
    """Bytes of a dataset's NPZ file; None = compressed, so it is known only at the end."""
    if dataset.compress:
        return None
    arrays = _arrays(dataset)
    archive = ZipStream(lambda number: arrays[number].path)
    for array in arrays:
        archive.begin(array.size)
        archive.end(0)
    for _ in archive.close():
        pass
    return archive.size


async def write_npz(dataset: Dataset, batches: Batches) -> AsyncGenerator[bytes, None]:
    """Arrays as numpy's ``savez`` writes them, or its ``savez_compressed``."""
    arrays = _arrays(dataset)
    archive = ZipStream(lambda number: arrays[number].path, dataset.compress)
    images, *others = arrays
    checksum = zlib.crc32(images.header)
    yield archive.begin(images.size) + archive.write(images.header)
    async for batch in batches:
        part = pixel_bytes(batch)
        checksum = zlib.crc32(part, checksum)
        if not dataset.compress:
            yield part
            continue
        for start in range(0, len(part), _PIECE):
            yield archive.write(part[start : start + _PIECE])
            await asyncio.sleep(0)
    yield archive.end(checksum)
    for array in others:
        numbers = Dataset.seeds if array.path == b"seeds.npy" else _labels
        checksum = zlib.crc32(array.header)
        yield archive.begin(array.size) + archive.write(array.header)
        for start in range(0, dataset.count, _NUMBERS):
            stop = min(start + _NUMBERS, dataset.count)
            part = numbers(dataset, start, stop).astype("<i8").tobytes()
            checksum = zlib.crc32(part, checksum)
            yield archive.write(part)
        yield archive.end(checksum)
    for piece in archive.close():
        yield piece


def _labels(dataset: Dataset, start: int, stop: int) -> NDArray[np.int64]:
    indices = np.arange(start, stop, dtype=np.int64)
    if dataset.label is not None:
        return np.full_like(indices, dataset.label)
    return indices % dataset.model.network.num_classes
