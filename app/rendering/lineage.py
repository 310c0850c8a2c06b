"""What an answer tells of its images besides their pixels, and the address that has them again."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlencode

import numpy as np

from app.core.latent_walk import Walk
from app.core.selection import pinned_name
from app.core.service import Order
from app.engines.rows import Sample
from app.engines.store import StoredModel
from app.formats.media_types import JSON, NPY, PNG, SHORT, WEBP, ZIP
from app.formats.pixels import ENCODER_VERSIONS, Image
from app.formats.provenance import FROM_UPLOAD, GENERATED, MetadataLevel
from app.formats.sheets import Layout
from app.formats.uploads import Upload, summary
from app.seeds import list_text

Identity = Callable[[StoredModel], str | None]  # ``Service.identity``

IMMUTABLE = "public, max-age=31536000, immutable"  # a year: of addresses that pin the model
_TAG = re.compile(r'"[^"]*"')

ANIMATION: Layout = "animation"
FRAME_MS = 100
OFFERS = (PNG, JSON, NPY, ZIP, WEBP)  # of equals that a client takes, the first


class Rendering(NamedTuple):
    """How images are to be given."""

    media: str = PNG  # one of OFFERS: PNG and WebP are one sheet, the others one by one
    scale: int = 1  # pixels, as wide and high, that one pixel is drawn as; not in npy
    layout: Layout = "grid"
    metadata: MetadataLevel = "full"
    frame_ms: int = FRAME_MS  # of an animation


AS_PNG = Rendering()


class Origin(NamedTuple):
    """What an answer says of its images besides their pixels."""

    model: str
    seeds: Sequence[int | None]
    labels: Sequence[str | None]
    permalinks: Sequence[str | None]  # asked for as JSON only
    classes: Sequence[str] = ()  # all class names of the model, where the images have labels
    location: str | None = None  # of the whole answer
    etag: str | None = None  # known before anything is computed
    cache: str = "no-store"
    drawn: Sequence[Sample] = ()  # with the labels that were drawn
    order: Order | None = None  # None = there is no recipe
    source: str = GENERATED
    columns: int | None = None  # of a grid; None = as many as make it square
    tiles: Sequence[Image] | None = None  # what a sheet or animation shows; None = the images
    items: Sequence[Mapping[str, Any]] | None = None  # more about each image, asked for as JSON
    headers: Mapping[str, str] = MappingProxyType({})
    pictures: Sequence[Upload] = ()  # uploads that the images were made from, one each


def has_it(if_none_match: str, etag: str) -> bool:
    """Whether If-None-Match names the tag (RFC 9110, section 13.1.2)."""
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


@lru_cache(4096)
def address_of(model: str, label: str | None, path: str = "/generate") -> str:
    """The beginning of a permalink, up to the seeds.

    Args:
        model: Pinned to its digest, so that the address never gives another checkpoint's images.
        label: The class's name.
        path: Of the operation.
    """
    label_part = {} if label is None else {"label": label}
    return f"{path}?" + urlencode({"model": model, **label_part}, safe="@")


@lru_cache(1024)
def _options(truncation: float, rendering: Rendering, several: bool) -> str:
    """The end of a permalink: what is not as it is by default, and matters."""
    media, scale, layout, metadata, frame_ms = rendering
    options: dict[str, str | int] = {}
    if truncation != 1:
        options["truncation"] = f"{truncation:g}"
    if media != NPY and scale != 1:
        options["scale"] = scale
    if media in (PNG, WEBP) and several and layout != "grid":
        options["layout"] = layout
        if layout == ANIMATION and frame_ms != FRAME_MS:
            options["frame_ms"] = frame_ms
    if media != NPY and metadata != "full":
        options["metadata"] = metadata
    if media != PNG:
        options["format"] = SHORT[media]
    return f"&{urlencode(options)}" if options else ""


def _location(order: Order, samples: Sequence[Sample], rendering: Rendering) -> str:
    """The one canonical address of an answer of /generate."""
    model, total, first = order.model, len(samples), samples[0].seed
    # A label that was drawn is drawn from the seed, so leaving it out gives the same images.
    label = samples[0].label if total == 1 else order.label
    name = None if label is None else model.description.labels[label]
    address = address_of(pinned_name(model), name)
    listed = str(first) if total == 1 else list_text(order.seeds)
    if "," in listed:
        address += f"&seeds={listed}"
    else:
        address += f"&seed={first}" if total == 1 else f"&seed={first}&n={total}"
    return address + _options(order.truncation, rendering, total > 1)


def tag(*depends_on: str) -> str:
    """A strong entity tag: another one if anything is another that the bytes depend on."""
    return f'"{hashlib.sha256(" ".join(depends_on).encode()).hexdigest()[:32]}"'


def caching(
    location: str, media: str, model: StoredModel, pinned: bool, identity: Identity
) -> tuple[str | None, str]:
    """The ETag, known before anything is computed, and the Cache-Control of seeded images."""
    if (depends_on := identity(model)) is None:
        return None, "no-cache"
    etag = tag(location, media, depends_on, ENCODER_VERSIONS)
    return etag, IMMUTABLE if pinned else "no-cache"


def origin_of(
    order: Order,
    samples: Sequence[Sample],
    rendering: Rendering,
    seeded: bool,
    pinned: bool,
    identity: Identity,
) -> Origin:
    """Where the images of /generate come from, with the addresses that give them again.

    All of it is known before anything is computed.

    Args:
        order: What was asked for.
        samples: ``Service.samples(order)``.
        rendering: How it is to be given.
        seeded: Whether the request named seeds: only then is the answer the same next time.
        pinned: Whether it named the model's digest: only then is it the same for ever.
        identity: ``Service.identity``.
    """
    model, names = order.model, order.model.description.labels
    location = _location(order, samples, rendering)
    etag, cache = None, "no-store"
    if seeded:
        etag, cache = caching(location, rendering.media, model, pinned, identity)
    permalinks: list[str] = []
    if rendering.media == JSON:
        one = Rendering(scale=rendering.scale, metadata=rendering.metadata)
        for sample in samples:
            single = order._replace(label=sample.label, seeds=(sample.seed,))
            permalinks.append(_location(single, (sample,), one))
    return Origin(
        model=model.name,
        seeds=[sample.seed for sample in samples],
        labels=[None if sample.label is None else names[sample.label] for sample in samples],
        permalinks=permalinks,
        classes=names,
        location=location,
        etag=etag,
        cache=cache,
        drawn=samples,
        order=order,
    )


def walk_origin(
    found: Walk,
    address: tuple[str, Mapping[str, str | int]],
    total: int,
    rendering: Rendering,
    pinned: bool,
    identity: Identity,
) -> Origin:
    """Where the images of a walk through the latents come from.

    Args:
        found: The walk; what depends on more than seeds has no address.
        address: The path, and the parameters that are its own.
        total: Images.
        rendering: How they are to be given.
        pinned: Whether the request named the model's digest.
        identity: ``Service.identity``.
    """
    model, names = found.model, found.model.description.labels
    label = None if found.label is None else names[found.label]
    origin = plain_origin(model, total, FROM_UPLOAD if found.shows_upload else GENERATED)
    origin = origin._replace(labels=[label] * total, classes=names)
    if not found.by_seeds:
        return origin
    path, parameters = address
    location = f"{address_of(pinned_name(model), label, path)}&{urlencode(parameters, safe=',')}"
    location += _options(found.truncation, rendering, total > 1)
    etag, cache = caching(location, rendering.media, model, pinned, identity)
    return origin._replace(location=location, etag=etag, cache=cache)


def plain_origin(
    model: StoredModel, total: int, source: str = GENERATED, pictures: Sequence[Upload] = ()
) -> Origin:
    """Of images that have no seed, address or recipe, and are not to be stored: those made from
    latents or an upload.

    Args:
        model: What made the images.
        total: Images.
        source: GENERATED, or FROM_UPLOAD for what shows somebody's picture.
        pictures: The uploads, one for each image; none where latents were sent.
    """
    nothing: list[None] = [None] * total
    return Origin(
        *(model.name, nothing, nothing, nothing),
        source=source,
        pictures=pictures,
    )


def from_pictures(origin: Origin, pictures: Sequence[Upload]) -> Origin:
    """Say in a header what was done to the uploads that all the images come from."""
    if not pictures:
        return origin
    return origin._replace(headers={**origin.headers, "X-Picture": summary(pictures)})


def compared(
    origin: Origin, pictures: Sequence[Image], images: Sequence[Image], columns: int | None
) -> Origin:
    """Beside each reconstruction its picture, and their difference.

    Args:
        origin: Of the reconstructions.
        pictures: As the model took them.
        images: The reconstructions.
        columns: What a sheet shows: 2 = picture and reconstruction, 3 = the difference as well;
            None = reconstructions alone.
    """
    items, tiles = [], []
    for picture, image in zip(pictures, images, strict=True):
        difference = np.maximum(picture, image) - np.minimum(picture, image)
        items.append({"error": float(np.mean(np.square(difference / 255)))})
        tiles += [picture, image, difference][:columns]
    if columns is None:
        return origin._replace(items=items)
    return origin._replace(items=items, tiles=tiles, columns=columns)
