"""How to get images again: the permalink of a response and the recipes inside its files.

Both follow from the same values (model, label, seeds, truncation, rendering), so they are made
here, in one pass and before anything is computed.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlencode

import numpy as np

from app.core.latent_walk import Walk
from app.core.requests import GenerateRequest
from app.core.selection import pinned_name
from app.engines.rows import Sample
from app.engines.store import StoredModel
from app.formats.media_types import JSON, NPY, PNG, SHORT, WEBP, ZIP
from app.formats.pixels import Image
from app.formats.provenance import FROM_UPLOAD, GENERATED, PictureMetadata, recipe_start
from app.formats.reading.uploads import Upload
from app.rendering.caching import Grader, etag_and_cache_control
from app.rendering.options import ANIMATION, FRAME_MS, Rendering
from app.rendering.schemas import PictureNote
from app.seeds import list_text


class ResponseMetadata(NamedTuple):
    """What a response says of its images besides their pixels.

    Sequences have an entry for each image, or are empty where that is said.
    """

    model: str
    seeds: Sequence[int | None]
    labels: Sequence[str | None]
    permalinks: Sequence[str | None]  # for JSON; otherwise it may be empty
    picture: PictureMetadata  # of a sheet or an animation
    images: Sequence[PictureMetadata]  # of each image's own file; for a sheet it may be empty
    classes: Sequence[str] = ()  # all class names of the model, where the images have labels
    location: str | None = None  # permalink of the whole response
    reproducibility: str | None = None  # of the model; where there is a permalink
    etag: str | None = None
    cache_control: str = "no-store"
    columns: int | None = None  # of a grid; None = as many as make it square
    tiles: Sequence[Image] | None = None  # what a sheet or animation shows; None = the images
    items: Sequence[Mapping[str, Any]] = ()  # further fields of ``ImageItem`` for JSON, or empty
    headers: Mapping[str, str] = MappingProxyType({})
    uploads: Sequence[Upload] = ()  # that the images were made from


@lru_cache(4096)
def permalink_start(model: str, label: str | None, path: str, root: str) -> str:
    """A permalink up to the seeds.

    Args:
        model: Pinned to its digest, so that the address never returns another checkpoint's images.
        label: The class's name.
        path: Of the operation.
        root: Path under which clients find the service.
    """
    label_part = {} if label is None else {"label": label}
    return f"{root}{path}?" + urlencode({"model": model, **label_part}, safe="@")


@lru_cache(1024)
def permalink_end(truncation: float, rendering: Rendering, several: bool) -> str:
    """A permalink after the seeds: options that matter and differ from their default."""
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


def _permalink(
    request: GenerateRequest,
    label: int | None,
    seeds: Sequence[int],
    rendering: Rendering,
    root: str,
) -> str:
    """The one canonical address of a response of /generate."""
    model, count = request.model, len(seeds)
    name = None if label is None else model.description.labels[label]
    address = permalink_start(pinned_name(model), name, "/generate", root)
    if count == 1:
        address += f"&seed={seeds[0]}"
    elif "," in (listed := list_text(seeds)):
        address += f"&seeds={listed}"
    else:
        address += f"&seed={seeds[0]}&n={count}"
    return address + permalink_end(request.truncation, rendering, count > 1)


def _recipe(
    request: GenerateRequest, label: int | None, seeds: Sequence[int], rendering: Rendering
) -> PictureMetadata:
    """What a picture of these seeds says of itself, with a recipe if that is asked for."""
    several = len(seeds) > 1
    if rendering.metadata == "none":
        return PictureMetadata()
    # An animation has no recipe: /verify compares one picture.
    if rendering.metadata == "mark" or (several and rendering.layout == ANIMATION):
        return PictureMetadata(GENERATED)
    model, layout = request.model, rendering.layout if several else "grid"
    start = recipe_start(
        *(model.name, model.description.digest),
        *(label, request.truncation, layout, rendering.scale),
    )
    return PictureMetadata(GENERATED, start, list_text(seeds) if several else str(seeds[0]))


def image_recipes(
    request: GenerateRequest, samples: Sequence[Sample], rendering: Rendering
) -> list[PictureMetadata]:
    """What each image says of itself in a file of its own."""
    return [_recipe(request, sample.label, (sample.seed,), rendering) for sample in samples]


def generate_metadata(
    request: GenerateRequest,
    samples: Sequence[Sample],
    rendering: Rendering,
    seeded: bool,
    pinned: bool,
    grader: Grader,
    root: str,
) -> ResponseMetadata:
    """The metadata of a response of /generate.

    Args:
        order: The request.
        samples: ``request.samples()``.
        rendering: How the images are returned.
        seeded: Whether the request named seeds: only then is the response the same next time.
        pinned: Whether it named the model's digest: only then is it the same for ever.
        grader: The service.
        root: Path under which clients find the service.
    """
    model, names = request.model, request.model.description.labels
    # One image is named by the label that was drawn for it; several draw theirs again.
    label = samples[0].label if len(samples) == 1 else request.label
    location = _permalink(request, label, request.seeds, rendering, root)
    etag, cache_control = None, "no-store"
    if seeded:
        etag, cache_control = etag_and_cache_control(
            location, rendering.media, model, pinned, grader
        )
    permalinks: list[str] = []
    if rendering.media == JSON:
        single = Rendering(scale=rendering.scale, metadata=rendering.metadata)
        permalinks = [_permalink(request, s.label, (s.seed,), single, root) for s in samples]
    separate = rendering.media in (JSON, ZIP)
    return ResponseMetadata(
        model=model.name,
        seeds=[sample.seed for sample in samples],
        labels=[None if sample.label is None else names[sample.label] for sample in samples],
        permalinks=permalinks,
        picture=_recipe(request, label, request.seeds, rendering),
        images=image_recipes(request, samples, rendering) if separate else (),
        classes=names,
        location=location,
        reproducibility=grader.reproducibility(model),
        etag=etag,
        cache_control=cache_control,
    )


def walk_metadata(
    walk: Walk,
    address: tuple[str, Mapping[str, str | int]],
    count: int,
    rendering: Rendering,
    pinned: bool,
    grader: Grader,
    root: str,
) -> ResponseMetadata:
    """The metadata of images on a walk through the latents.

    Args:
        walk: The walk; one that depends on more than seeds has no permalink.
        address: The operation's path, and the parameters of its own.
        count: Images.
        rendering: How they are returned.
        pinned: Whether the request named the model's digest.
        grader: The service.
        root: Path under which clients find the service.
    """
    model, names = walk.model, walk.model.description.labels
    label = None if walk.label is None else names[walk.label]
    source = FROM_UPLOAD if walk.shows_upload else GENERATED
    metadata = seedless_metadata(model, count, rendering, source)
    metadata = metadata._replace(labels=[label] * count, classes=names)
    if not walk.by_seeds:
        return metadata
    path, parameters = address
    start = permalink_start(pinned_name(model), label, path, root)
    location = f"{start}&{urlencode(parameters, safe=',')}"
    location += permalink_end(walk.truncation, rendering, count > 1)
    etag, cache_control = etag_and_cache_control(location, rendering.media, model, pinned, grader)
    return metadata._replace(
        location=location,
        reproducibility=grader.reproducibility(model),
        etag=etag,
        cache_control=cache_control,
    )


def seedless_metadata(
    model: StoredModel, count: int, rendering: Rendering, source: str = GENERATED
) -> ResponseMetadata:
    """The metadata of images made from latents or uploads: no seed, permalink or recipe, and not
    to be stored.

    Args:
        model: That made the images.
        count: Images.
        rendering: How they are returned.
        source: GENERATED, or FROM_UPLOAD for what shows an uploaded picture.
    """
    nothing: list[None] = [None] * count
    mark = PictureMetadata() if rendering.metadata == "none" else PictureMetadata(source)
    return ResponseMetadata(model.name, nothing, nothing, nothing, mark, [mark] * count)


def fit_header(fits: Sequence[float] | None) -> dict[str, str]:
    """The header that states how well uploads fit, in their order; none if that is not known."""
    return {"X-Picture-Fit": ", ".join(f"{fit:g}" for fit in fits)} if fits else {}


def reconstruction_metadata(
    model: StoredModel,
    uploads: Sequence[Upload],
    fits: Sequence[float] | None,
    images: Sequence[Image],
    rendering: Rendering,
    columns: int | None,
) -> ResponseMetadata:
    """The metadata of reconstructions, with the error of each.

    Args:
        model: That made them.
        uploads: The pictures.
        fits: Of each; None = not known.
        images: Their reconstructions.
        rendering: How they are returned.
        columns: Of a sheet: 2 = picture and reconstruction, 3 = their difference as well, None =
            reconstructions alone.
    """
    items: list[Mapping[str, Any]] = []
    tiles: list[Image] = []
    for index, (upload, image) in enumerate(zip(uploads, images, strict=True)):
        difference = np.maximum(upload.image, image) - np.minimum(upload.image, image)
        error = float(np.mean(np.square(difference / 255)))
        fit = fits[index] if fits else None
        items.append({"error": error, "picture": PictureNote.of(upload), "fit": fit})
        tiles += [upload.image, image, difference][:columns]
    metadata = seedless_metadata(model, len(images), rendering, FROM_UPLOAD)
    metadata = metadata._replace(items=items, uploads=uploads, headers=fit_header(fits))
    return metadata if columns is None else metadata._replace(tiles=tiles, columns=columns)
