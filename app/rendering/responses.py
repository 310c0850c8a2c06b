"""Images as an answer: PNG, JSON, npy or ZIP, with the headers that say what made them."""

import base64
import hashlib
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from starlette.responses import Response

from app import __version__
from app.batching.ticket import Timing
from app.core.datasets import Dataset, npz_size
from app.core.selection import pinned_name
from app.core.service import Generated, Order
from app.errors import InvalidParameterError
from app.formats.animation import to_animation
from app.formats.manifest import MANIFEST_HEADER, MANIFEST_NAME, Manifest
from app.formats.media_types import APNG, NPY, NPZ, PNG, SHORT, WEBP, ZIP
from app.formats.npy import to_npy
from app.formats.pixels import ENCODER_VERSIONS, Image
from app.formats.png import to_png
from app.formats.provenance import GENERATED, PictureMetadata, recipe_start
from app.formats.sheets import rows_and_columns, sheet
from app.formats.uploads import Upload, summary
from app.formats.webp import MAX_WEBP_SIDE, to_webp
from app.formats.zip_stream import ZipStream
from app.rendering.lineage import ANIMATION, Identity, Origin, Rendering, address_of, caching, tag
from app.rendering.schemas import ImageItem, ImageList, PictureNote
from app.seeds import list_text


class _OnePng(NamedTuple):
    """Of answers with one PNG, what is the same for all seeds."""

    head: bytes  # header lines
    address: str  # of the image, up to the seed
    recipe: str  # as ``recipe_start`` gives it


class Reply(Response):
    """An answer whose headers are made already: Starlette takes as long to make them as the rest of
    an answer does."""

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


def images_reply(
    rendering: Rendering, images: Sequence[Image], origin: Origin, timing: Timing
) -> Reply:
    """The images."""
    started = time.perf_counter()
    media, scale, layout, _, frame_ms = rendering
    tiles = images if origin.tiles is None else origin.tiles
    if layout == ANIMATION and media in (PNG, WEBP) and len(tiles) > 1:
        xmp = _told(origin, rendering).xmp()
        body = to_animation(tiles, media, scale, frame_ms, xmp)
        media = APNG if media == PNG else media
    elif media == PNG:
        picture = sheet(tiles, layout, origin.columns)
        body = to_png(picture, scale, _told(origin, rendering).png())
    elif media == WEBP:
        picture = sheet(tiles, layout, origin.columns)
        body = to_webp(picture, scale, _told(origin, rendering).xmp())
    elif media == NPY:
        body = to_npy(images)
    elif media == ZIP:
        body = _as_zip(images, origin, rendering)
    else:
        body = _as_json(images, origin, rendering)
    headers = _headers(origin)
    spent = server_timing(timing, time.perf_counter() - started)
    headers.append((b"server-timing", spent.encode()))
    return Reply(body, media, headers)


def _told(origin: Origin, rendering: Rendering, index: int | None = None) -> PictureMetadata:
    """What a picture says of itself: the whole sheet, or one image of those given one by one."""
    order = origin.order
    if rendering.metadata == "none":
        return PictureMetadata()
    several = index is None and len(origin.seeds) > 1
    # An animation has no recipe: /verify compares one picture.
    if order is None or rendering.metadata == "mark" or (several and rendering.layout == ANIMATION):
        return PictureMetadata(origin.source)
    if not several:
        index = index or 0
    model, label, layout = order.model, order.label, rendering.layout
    if index is not None:
        label, layout = origin.drawn[index].label, "grid"
    start = recipe_start(
        *(model.name, model.description.digest),
        *(label, order.truncation, layout, rendering.scale),
    )
    listed = list_text(order.seeds) if index is None else str(order.seeds[index])
    return PictureMetadata(origin.source, start, listed)


def _headers(origin: Origin) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"x-model", origin.model.encode()),
        (b"vary", b"Accept"),
        (b"cache-control", origin.cache.encode()),
    ]
    if origin.seeds and origin.seeds[0] is not None:
        headers.append((b"x-seed", b"%d" % origin.seeds[0]))
    if origin.location:
        headers.append((b"content-location", origin.location.encode()))
    if origin.etag:
        headers.append((b"etag", origin.etag.encode()))
    headers += [(name.lower().encode(), value.encode()) for name, value in origin.headers.items()]
    if origin.pictures:
        headers.append((b"x-picture", summary(origin.pictures).encode()))
    return headers


def picture_note(picture: Upload) -> PictureNote:
    """What JSON tells of an uploaded picture."""
    return PictureNote(width=picture.width, height=picture.height, steps=list(picture.steps))


def without_images(media: str, origin: Origin, status: Literal[200, 304]) -> Response:
    """An answer's headers alone: 200 to HEAD, 304 to who has the images already."""
    reply = Response(status_code=status)
    reply.raw_headers = _headers(origin)
    if status == 200:
        reply.raw_headers.append((b"content-type", media.encode()))
    return reply


@lru_cache(4096)
def _one_png(pin: str, model: str, digest: str, index: int | None, label: str | None) -> _OnePng:
    """What all answers with one image of a label have in common; see ``one_png``."""
    return _OnePng(
        b"content-type: image/png\r\nvary: Accept\r\nx-model: %b\r\n" % model.encode(),
        f"{address_of(pin, label)}&seed=",
        recipe_start(model, digest, index, 1, "grid", 1),
    )


def one_png(
    order: Order, made: Generated, seeded: bool, pinned: bool, identity: Identity
) -> tuple[bytes, bytes]:
    """The header lines and the body that ``images_reply`` gives for one untruncated image as a PNG.

    On the path of every plain request: what does not depend on the seed is kept, and nothing is
    taken apart that was just put together. That is a third of the time (docs/log.md).

    Args:
        order, seeded, pinned, identity: As of ``origin_of``.
        made: One image.
    """
    started = time.perf_counter()
    model, (seed, index, _), timing = order.model, made.samples[0], made.timing
    label = None if index is None else model.description.labels[index]
    digest = model.description.digest
    head, address, recipe = _one_png(pinned_name(model), model.name, digest, index, label)
    text = str(seed)
    body = to_png(made.images[0], 1, PictureMetadata(GENERATED, recipe, text).png())
    location = address + text
    kept = "cache-control: no-store\r\n"
    if seeded:
        etag, cache = caching(location, PNG, model, pinned, identity)
        kept = f"cache-control: {cache}\r\n" + (f"etag: {etag}\r\n" if etag else "")
    spent = server_timing(timing, time.perf_counter() - started)
    lines = (
        f"content-length: {len(body)}\r\nx-seed: {text}\r\ncontent-location: {location}\r\n"
        f"{kept}server-timing: {spent}\r\n"
    )
    return head + lines.encode(), body


def check_size(
    rendering: Rendering, shape: tuple[int, int, int], count: int, columns: int | None = None
) -> None:
    """Refuse a picture that its format cannot hold.

    Args:
        rendering: As asked for.
        shape: (C, H, W) of one image.
        count: Images that it shows.
        columns: Of a grid, as in ``Origin``.

    Raises:
        InvalidParameterError: it is a WebP with too long a side.
    """
    rows, columns = rows_and_columns(count, rendering.layout, columns)
    side = max(rows * shape[1], columns * shape[2]) * rendering.scale
    if rendering.media == WEBP and side > MAX_WEBP_SIDE:
        raise InvalidParameterError(
            f"the picture would have {side} pixels on a side; WebP holds {MAX_WEBP_SIDE}: ask for "
            "fewer images, a smaller scale, layout=grid or format=png",
            errors=[{"pointer": "?format", "detail": f"webp: at most {MAX_WEBP_SIDE} pixels"}],
        )


def dataset_headers(
    media: str, made: Dataset, seeded: bool, identity: str | None
) -> dict[str, str]:
    """What is said of a dataset.

    Args:
        media: ZIP or NPZ.
        made: The dataset.
        seeded: Whether the request named a seed.
        identity: ``Service.identity`` of its model.
    """
    name, count, seed = made.model.name, len(made.seeds), made.seeds.start
    label = None if made.label is None else made.model.description.labels[made.label]
    metadata = "" if media == NPZ or made.metadata == "mark" else f"&metadata={made.metadata}"
    ending, address = SHORT[media], address_of(pinned_name(made.model), label, "/dataset")
    location = f"{address}&seed={seed}&n={count}{metadata}&format={ending}"
    headers = {
        "X-Model": name,
        "X-Seed": str(seed),
        "Vary": "Accept",
        "Cache-Control": "no-cache" if seeded else "no-store",
        "Content-Disposition": f'attachment; filename="{name}-seed{seed}-n{count}.{ending}"',
        "Content-Location": location,
    }
    if seeded and identity is not None:
        # The version, for no release promises to pack a file as the one before.
        headers["ETag"] = tag(location, media, identity, ENCODER_VERSIONS, __version__)
        headers["Accept-Ranges"] = "bytes"
    if media == NPZ:
        headers["Content-Length"] = str(npz_size(made))
    return headers


def pngs(images: Sequence[Image], origin: Origin, rendering: Rendering) -> Iterator[bytes]:
    """Each image as a file of its own, which tells what made it."""
    for index, image in enumerate(images):
        yield to_png(image, rendering.scale, _told(origin, rendering, index).png())


def _as_zip(images: Sequence[Image], origin: Origin, rendering: Rendering) -> bytes:
    manifest = Manifest(origin.classes)
    labels = [None if label is None else origin.classes.index(label) for label in origin.labels]
    names = [manifest.path(index, label).encode() for index, label in enumerate(labels)]
    archive = ZipStream([*names, MANIFEST_NAME].__getitem__)
    members = [archive.member(png) for png in pngs(images, origin, rendering)]
    rows = [
        manifest.row(*row) for row in zip(range(len(images)), labels, origin.seeds, strict=True)
    ]
    listed = archive.member(MANIFEST_HEADER + "".join(rows).encode())
    return b"".join((*members, listed, *archive.close()))


def _as_json(images: Sequence[Image], origin: Origin, rendering: Rendering) -> bytes:
    items = []
    for index, png in enumerate(pngs(images, origin, rendering)):
        more = dict(origin.items[index]) if origin.items else {}
        if origin.pictures:
            more["picture"] = picture_note(origin.pictures[index])
        items.append(
            ImageItem(
                image=base64.b64encode(png).decode(),
                digest=hashlib.sha256(png).hexdigest(),
                seed=origin.seeds[index],
                label=origin.labels[index],
                permalink=origin.permalinks[index],
                **more,
            )
        )
    return ImageList(model=origin.model, items=items).model_dump_json(exclude_unset=True).encode()
