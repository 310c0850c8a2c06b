"""Images as an answer: PNG, JSON or npy, with the headers that say what made them."""

import base64
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from app.batching import Timing
from app.images import Image, sheet, to_npy, to_png
from app.negotiation import JSON, NPY, PNG
from app.schemas import ImageItem, ImageList

OFFERS = (PNG, JSON, NPY)


@dataclass(frozen=True)
class Origin:
    """What an answer says of its images besides their pixels."""

    model: str
    seeds: Sequence[int | None]
    labels: Sequence[str | None]
    permalinks: Sequence[str | None]
    location: str | None = None  # of the whole answer
    cache: str = "no-store"


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
    """The images as ``media``, one of OFFERS: PNG is one sheet, JSON and npy are one by one."""
    started = time.perf_counter()
    if media == PNG:
        body = to_png(sheet(images, scale))
    elif media == NPY:
        body = to_npy(images)
    else:
        body = _as_json(images, origin, scale)
    headers = {
        "X-Model": origin.model,
        "Vary": "Accept",
        "Cache-Control": origin.cache,
        "Server-Timing": server_timing(timing, time.perf_counter() - started),
    }
    if origin.seeds and origin.seeds[0] is not None:
        headers["X-Seed"] = str(origin.seeds[0])
    if origin.location:
        headers["Content-Location"] = origin.location
    return Response(body, media_type=media, headers=headers)


def _as_json(images: Sequence[Image], origin: Origin, scale: int) -> bytes:
    items = []
    for index, image in enumerate(images):
        png = to_png(sheet([image], scale))
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
