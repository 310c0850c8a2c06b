"""Images as an answer: PNG, JSON, npy or ZIP, with the headers that say what made them."""

import base64
import hashlib
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.responses import Response

from app.archive import ZipStream
from app.dataset import Dataset, npz_size
from app.images import Image, sheet, to_npy, to_png
from app.manifest import HEADER, MANIFEST, Listing
from app.negotiation import FORMATS, JSON, NPY, NPZ, PNG, ZIP
from app.pending import Timing
from app.schemas import ImageItem, ImageList
from app.service import Generated

OFFERS = (PNG, JSON, NPY, ZIP)


class Origin(NamedTuple):
    """What an answer says of its images besides their pixels."""

    model: str
    seeds: Sequence[int | None]
    labels: Sequence[str | None]
    permalinks: Sequence[str | None]  # asked for as JSON only
    classes: Sequence[str] = ()  # all class names of the model, where the images have labels
    location: str | None = None  # of the whole answer
    cache: str = "no-store"


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
    media: str, images: Sequence[Image], origin: Origin, timing: Timing, scale: int
) -> Response:
    """The images as ``media``, one of OFFERS: PNG is one sheet, the others are one by one."""
    started = time.perf_counter()
    if media == PNG:
        body = to_png(sheet(images), scale)
    elif media == NPY:
        body = to_npy(images)
    elif media == ZIP:
        body = _as_zip(images, origin, scale)
    else:
        body = _as_json(images, origin, scale)
    headers = [
        (b"x-model", origin.model.encode()),
        (b"vary", b"Accept"),
        (b"cache-control", origin.cache.encode()),
        (b"server-timing", server_timing(timing, time.perf_counter() - started).encode()),
    ]
    if origin.seeds and origin.seeds[0] is not None:
        headers.append((b"x-seed", b"%d" % origin.seeds[0]))
    if origin.location:
        headers.append((b"content-location", origin.location.encode()))
    return Reply(body, media, headers)


@lru_cache(4096)
def _address(model: str, label: str | None, path: str = "/generate") -> str:
    """The beginning of a permalink, up to the seed."""
    label_part = {} if label is None else {"label": label}
    return f"{path}?" + urlencode({"model": model, **label_part, "seed": ""})


def _origin(
    made: Generated, asked_label: str | None, seeded: bool, media: str, scale: int
) -> Origin:
    """Where generated images come from, with the addresses that give them again."""
    name, total = made.model.name, len(made.images)
    labels = [made.label_name(index) for index in range(total)]
    single = f"&scale={scale}" if scale > 1 else ""
    whole = f"&n={total}{single}" if total > 1 else single
    if media != PNG:
        whole += "&format=" + next(short for short, long in FORMATS.items() if long == media)
    # A label that was drawn is drawn from the seed, so leaving it out gives the same images.
    shared_label = labels[0] if total == 1 or asked_label is not None else None
    return Origin(
        model=name,
        seeds=[sample.seed for sample in made.samples],
        labels=labels,
        permalinks=[
            f"{_address(name, label)}{sample.seed}{single}"
            for sample, label in zip(made.samples, labels, strict=True)
        ]
        if media == JSON
        else [],
        classes=made.model.description.labels,
        location=f"{_address(name, shared_label)}{made.samples[0].seed}{whole}",
        cache="no-cache" if seeded else "no-store",
    )


def generated_reply(
    media: str, made: Generated, asked_label: str | None, seeded: bool, scale: int
) -> Response:
    """What /generate answers.

    Args:
        media: One of OFFERS.
        made: The images.
        asked_label: The request's label, None if it named none.
        seeded: Whether the request named a seed: only then is the answer the same next time.
        scale: As in ``images_reply``.
    """
    origin = _origin(made, asked_label, seeded, media, scale)
    return images_reply(media, made.images, origin, made.timing, scale)


def dataset_headers(media: str, made: Dataset, seeded: bool) -> dict[str, str]:
    """What is said of a dataset.

    Args:
        media: ZIP or NPZ.
        made: The dataset.
        seeded: Whether the request named a seed.
    """
    name, count, seed = made.model.name, len(made.seeds), made.seeds.start
    label = None if made.label is None else made.model.description.labels[made.label]
    ending = "zip" if media == ZIP else "npz"
    headers = {
        "X-Model": name,
        "X-Seed": str(seed),
        "Vary": "Accept",
        "Cache-Control": "no-cache" if seeded else "no-store",
        "Content-Disposition": f'attachment; filename="{name}-seed{seed}-n{count}.{ending}"',
        "Content-Location": f"{_address(name, label, '/dataset')}{seed}&n={count}&format={ending}",
    }
    if media == NPZ:
        headers["Content-Length"] = str(npz_size(made))
    return headers


def _as_zip(images: Sequence[Image], origin: Origin, scale: int) -> bytes:
    listing = Listing(origin.classes)
    labels = [None if label is None else origin.classes.index(label) for label in origin.labels]
    names = [listing.file(index, label).encode() for index, label in enumerate(labels)]
    archive = ZipStream([*names, MANIFEST].__getitem__)
    members = [archive.member(to_png(image, scale)) for image in images]
    rows = [listing.row(*row) for row in zip(range(len(images)), labels, origin.seeds, strict=True)]
    listed = archive.member(HEADER + "".join(rows).encode())
    return b"".join((*members, listed, *archive.close()))


def _as_json(images: Sequence[Image], origin: Origin, scale: int) -> bytes:
    items = []
    for index, image in enumerate(images):
        png = to_png(image, scale)
        items.append(
            ImageItem(
                image=base64.b64encode(png).decode(),
                digest=hashlib.sha256(png).hexdigest(),
                seed=origin.seeds[index],
                label=origin.labels[index],
                permalink=origin.permalinks[index],
            )
        )
    return ImageList(model=origin.model, items=items).model_dump_json().encode()
