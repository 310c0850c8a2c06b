"""Images and datasets as responses: bodies and headers."""

import base64
import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from starlette.responses import Response

from app import __version__
from app.batching.ticket import Timing
from app.core.datasets.files import Dataset, npz_size
from app.core.requests import Generated, GenerateRequest
from app.core.selection import pinned_name
from app.formats.encoding import PictureEncoding
from app.formats.manifest import MANIFEST_HEADER, MANIFEST_NAME, Manifest
from app.formats.media_types import APNG, JSON, NPY, NPZ, PNG, SHORT, WEBP, ZIP
from app.formats.npy import to_npy
from app.formats.pixels import ENCODER_VERSIONS, Image
from app.formats.png import to_png
from app.formats.provenance import GENERATED, PictureMetadata, recipe_start
from app.formats.reading.uploads import summary
from app.formats.zip_stream import ZipStream
from app.rendering.caching import Grader, entity_tag, etag_and_cache_control
from app.rendering.lineage import ResponseMetadata, permalink_end, permalink_start
from app.rendering.options import ANIMATION, Rendering
from app.rendering.schemas import ImageItem, ImageList, list_parts


class EncodedResponse(Response):
    """A response whose headers are encoded already: in Starlette that takes as long as all the
    rest of it."""

    def __init__(self, body: bytes, media: str, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code, self.body, self.background = 200, body, None
        self.raw_headers = [
            (b"content-type", media.encode()),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ]


def server_timing(timing: Timing, encode_s: float) -> str:
    """The Server-Timing header: milliseconds, and the batch that the request shared."""
    return (
        f"queue;dur={timing.queue_s * 1e3:.2f}, "
        f'batch;desc="{timing.own_rows} of {timing.batch_rows}", '
        f"compute;dur={timing.run_s * 1e3:.2f}, encode;dur={encode_s * 1e3:.2f}"
    )


def picture_encoding(
    rendering: Rendering, images: Sequence[Image], metadata: ResponseMetadata
) -> PictureEncoding | None:
    """The picture files of a response; None = it has none."""
    media, scale, layout, _, frame_ms = rendering
    if media == NPY:
        return None
    if media not in (PNG, WEBP):
        packets = tuple(own.png() for own in metadata.images)
        return PictureEncoding(PNG, images, packets, scale)
    tiles = images if metadata.tiles is None else metadata.tiles
    animated = layout == ANIMATION and len(tiles) > 1
    packet = metadata.picture.png() if media == PNG and not animated else metadata.picture.xmp()
    columns = metadata.columns
    return PictureEncoding(media, tiles, (packet,), scale, layout, columns, frame_ms)


def images_response(
    rendering: Rendering, images: Sequence[Image], metadata: ResponseMetadata, timing: Timing
) -> EncodedResponse:
    """Images in the format that was asked for, where ``is_quick``.

    Args:
        rendering, images, metadata: Of the response.
        timing: Of the model.
    """
    started = time.perf_counter()
    encoding = picture_encoding(rendering, images, metadata)
    parts = body_parts(rendering, images, metadata, encoding.files() if encoding else ())
    body = b"".join(parts)
    return finished(rendering, images, metadata, timing, body, time.perf_counter() - started)


def body_parts(
    rendering: Rendering,
    images: Sequence[Image],
    metadata: ResponseMetadata,
    files: Sequence[bytes],
) -> Iterable[bytes]:
    """The body of a response in parts, each computed when it is asked for.

    Args:
        rendering, images, metadata: Of the response.
        files: What ``picture_encoding(...).files()`` returned, if there are pictures.
    """
    if rendering.media == NPY:
        return [to_npy(images)]
    if rendering.media == ZIP:
        return _zip_parts(files, metadata)
    return _json_parts(files, metadata) if rendering.media == JSON else files


def finished(
    rendering: Rendering,
    images: Sequence[Image],
    metadata: ResponseMetadata,
    timing: Timing,
    body: bytes,
    encode_s: float,
) -> EncodedResponse:
    """A response whose body is there; ``encode_s``: seconds that it took to write."""
    media = rendering.media
    if media == PNG and rendering.layout == ANIMATION and len(images) > 1:
        media = APNG
    headers = _headers(metadata, media)
    headers.append((b"server-timing", server_timing(timing, encode_s).encode()))
    return EncodedResponse(body, media, headers)


def is_quick_png(rendering: Rendering, images: Sequence[Image]) -> bool:
    """Whether the response is one image as a PNG, quick enough for the event loop: ``one_png``."""
    one = rendering.media == PNG and len(images) == 1
    return one and _is_quick_png(images[0].shape, rendering.scale)


@lru_cache(256)
def _is_quick_png(shape: tuple[int, ...], scale: int) -> bool:
    return PictureEncoding(PNG, [np.empty(shape, np.uint8)], (b"",), scale).in_line


def is_quick(rendering: Rendering, images: Sequence[Image], metadata: ResponseMetadata) -> bool:
    """Whether ``images_response`` is quick enough for the event loop."""
    encoding = picture_encoding(rendering, images, metadata)
    return encoding is None or encoding.in_line


def headers_only(media: str, metadata: ResponseMetadata, status: Literal[200, 304]) -> Response:
    """The headers of ``images_response`` alone: 200 for HEAD, 304 for a client that has the
    images."""
    response = Response(status_code=status)
    response.raw_headers = _headers(metadata, media)
    if status == 200:
        response.raw_headers.append((b"content-type", media.encode()))
    return response


@lru_cache(4096)
def _file_stem(model: str, label: str | None) -> str:
    """A name for a file without its ending, of a model and perhaps a class."""
    plain = None if label is None else re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-.")
    return f"{model}-{plain}" if plain else model


def _file_name(metadata: ResponseMetadata, media: str) -> str:
    """A name for a response's file: model, class, seed, number of images."""
    count, labels = len(metadata.seeds), set(metadata.labels)
    name = _file_stem(metadata.model, labels.pop() if len(labels) == 1 else None)
    if count and metadata.seeds[0] is not None:
        name += f"-{metadata.seeds[0]}"
    if count > 1:
        name += f"-n{count}"
    return f"{name}.{SHORT.get(media, 'png')}"


def _headers(metadata: ResponseMetadata, media: str) -> list[tuple[bytes, bytes]]:
    name = _file_name(metadata, media)
    headers = [
        (b"content-disposition", f'inline; filename="{name}"'.encode()),
        (b"x-model", metadata.model.encode()),
        (b"vary", b"Accept"),
        (b"cache-control", metadata.cache_control.encode()),
    ]
    if metadata.seeds and metadata.seeds[0] is not None:
        headers.append((b"x-seed", b"%d" % metadata.seeds[0]))
    if metadata.location:
        headers.append((b"content-location", metadata.location.encode()))
    if metadata.reproducibility:
        headers.append((b"x-reproducibility", metadata.reproducibility.encode()))
    if metadata.etag:
        headers.append((b"etag", metadata.etag.encode()))
    headers += [(name.lower().encode(), value.encode()) for name, value in metadata.headers.items()]
    if metadata.uploads:
        headers.append((b"x-picture", summary(metadata.uploads).encode()))
    return headers


def _zip_parts(pngs: Sequence[bytes], metadata: ResponseMetadata) -> Iterator[bytes]:
    manifest, classes = Manifest(metadata.classes), metadata.classes
    labels = [None if label is None else classes.index(label) for label in metadata.labels]
    paths = [manifest.path(index, label).encode() for index, label in enumerate(labels)]
    archive = ZipStream([*paths, MANIFEST_NAME].__getitem__)
    for png in pngs:
        yield archive.member(png)
    rows = [
        manifest.row(*row) for row in zip(range(len(pngs)), labels, metadata.seeds, strict=True)
    ]
    yield archive.member(MANIFEST_HEADER + "".join(rows).encode())
    yield from archive.close()


def _json_parts(pngs: Sequence[bytes], metadata: ResponseMetadata) -> Iterator[bytes]:
    items = (
        ImageItem(
            image=base64.b64encode(png).decode(),
            digest=hashlib.sha256(png).hexdigest(),
            seed=metadata.seeds[index],
            label=metadata.labels[index],
            permalink=metadata.permalinks[index],
            **(metadata.items[index] if metadata.items else {}),
        )
        for index, png in enumerate(pngs)
    )
    return list_parts(ImageList(model=metadata.model, items=[]), items, exclude_unset=True)


class _OnePngStart(NamedTuple):
    """What all responses with one PNG have in common that differ in the seed alone."""

    header_lines: bytes
    file_stem: str  # up to the seed
    permalink: tuple[str, str]  # up to the seed, and after it
    recipe: str | None  # up to the seed; None = the file has none


@lru_cache(4096)
def _one_png_start(
    pin: str,
    model: str,
    digest: str,
    index: int | None,
    label: str | None,
    root: str,
    truncation: float,
    rendering: Rendering,
    reproducibility: str,
) -> _OnePngStart:
    recipe = None
    if rendering.metadata == "full":
        recipe = recipe_start(model, digest, index, truncation, "grid", rendering.scale)
    return _OnePngStart(
        b"content-type: image/png\r\nvary: Accept\r\nx-model: %b\r\nx-reproducibility: %b\r\n"
        % (model.encode(), reproducibility.encode()),
        _file_stem(model, label),
        (
            f"{permalink_start(pin, label, '/generate', root)}&seed=",
            permalink_end(truncation, rendering, several=False),
        ),
        recipe,
    )


def one_png(
    request: GenerateRequest,
    generated: Generated,
    rendering: Rendering,
    seeded: bool,
    pinned: bool,
    grader: Grader,
    root: str,
) -> tuple[bytes, bytes]:
    """The header lines and body of ``images_response`` for one image as a PNG.

    The usual request passes through this: what does not depend on the seed is cached, and no value
    is built only to be taken apart. It takes a third of the time of ``images_response``.

    Args:
        request, rendering, seeded, pinned, grader, root: As in ``generate_metadata``.
        generated: One image.
    """
    started = time.perf_counter()
    model, (seed, index, _), timing = request.model, generated.samples[0], generated.timing
    label = None if index is None else model.description.labels[index]
    digest = model.description.digest
    lines, stem, permalink, recipe = _one_png_start(
        *(pinned_name(model), model.name, digest, index, label, root),
        *(request.truncation, rendering, grader.reproducibility(model)),
    )
    seed_text = str(seed)
    if recipe is not None:
        metadata = PictureMetadata(GENERATED, recipe, seed_text)
    else:
        metadata = PictureMetadata(GENERATED) if rendering.metadata == "mark" else PictureMetadata()
    body = to_png(generated.images[0], rendering.scale, metadata.png())
    location = permalink[0] + seed_text + permalink[1]
    caching = "cache-control: no-store\r\n"
    if seeded:
        etag, cache_control = etag_and_cache_control(location, PNG, model, pinned, grader)
        caching = f"cache-control: {cache_control}\r\n" + (f"etag: {etag}\r\n" if etag else "")
    timing_header = server_timing(timing, time.perf_counter() - started)
    own_lines = (
        f"content-length: {len(body)}\r\nx-seed: {seed_text}\r\n"
        f'content-disposition: inline; filename="{stem}-{seed_text}.png"\r\n'
        f"content-location: {location}\r\n"
        f"{caching}server-timing: {timing_header}\r\n"
    )
    return lines + own_lines.encode(), body


def dataset_headers(
    media: str, dataset: Dataset, seeded: bool, grader: Grader, root: str
) -> dict[str, str]:
    """The headers of a dataset.

    Args:
        media: ZIP or NPZ.
        dataset: The dataset.
        seeded: Whether the request named a seed.
        grader: The service.
        root: Path under which clients find the service.
    """
    name, count, seed = dataset.model.name, dataset.count, dataset.seed
    label = None if dataset.label is None else dataset.model.description.labels[dataset.label]
    metadata = "" if media == NPZ or dataset.metadata == "mark" else f"&metadata={dataset.metadata}"
    suffix = SHORT[media]
    start = permalink_start(pinned_name(dataset.model), label, "/dataset", root)
    split = f"&split={dataset.split}" if dataset.split else ""
    compress = "&compress=true" if dataset.compress else ""
    location = f"{start}&seed={seed}{split}&n={count}{metadata}{compress}&format={suffix}"
    stem = "-".join(filter(None, (name, f"seed{seed}", dataset.split, f"n{count}")))
    headers = {
        "X-Model": name,
        "X-Seed": str(seed),
        "Vary": "Accept",
        "Cache-Control": "no-cache" if seeded else "no-store",
        "Content-Disposition": f'attachment; filename="{stem}.{suffix}"',
        "Content-Location": location,
        "X-Reproducibility": grader.reproducibility(dataset.model),
    }
    if seeded and (identity := grader.identity(dataset.model)) is not None:
        # With the version, since the next release may pack a file in another way.
        headers["ETag"] = entity_tag(
            location, media, identity, ENCODER_VERSIONS, __version__, "streams"
        )
        headers["Accept-Ranges"] = "bytes"
    if media == NPZ and (size := npz_size(dataset)) is not None:
        headers["Content-Length"] = str(size)
    return headers
