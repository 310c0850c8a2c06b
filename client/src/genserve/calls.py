"""One function per operation: it builds the request that ``Client.send`` sends.

``Client`` and ``AsyncClient`` have a method for each of these functions, with its arguments. An
argument that is left out is not sent, so the service's defaults apply.
"""

import json
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Literal, TypeAlias
from urllib.parse import quote

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image as PillowImage

from genserve import responses
from genserve.inputs import (
    FileInput,
    LatentInput,
    PicturesInput,
    base64_picture,
    each_picture,
    file_bytes,
    latent_source,
    media_type,
)
from genserve.request import ImagesRequest, Request, query_parameters
from genserve.results import ModelCard, ModelList, Posteriors, Status, Verification

Metadata: TypeAlias = Literal["full", "mark", "none"]
Adjustment: TypeAlias = Literal["auto", "yes", "no"]  # whether to invert or center a picture


def _headers(timeout_ms: int | None, **others: str) -> dict[str, str]:
    headers = {name.replace("_", "-"): value for name, value in others.items()}
    return headers if timeout_ms is None else {**headers, "x-timeout-ms": str(timeout_ms)}


def _numbers(numbers: str | Iterable[int] | None) -> str | None:
    """As text: 0,1,2; a text such as 0-2 stays as it is."""
    return numbers if numbers is None or isinstance(numbers, str) else ",".join(map(str, numbers))


def _post(
    path: str, query: dict[str, str], content: object, timeout_ms: int | None
) -> ImagesRequest:
    """JSON in, images out."""
    query = query | {"format": "json"}
    headers = _headers(timeout_ms, content_type="application/json")
    return ImagesRequest(
        "POST", path, responses.images, query, headers, json.dumps(content).encode()
    )


def _get(path: str, query: dict[str, str], timeout_ms: int | None) -> ImagesRequest:
    """Images out."""
    query = query | {"format": "json"}
    return ImagesRequest("GET", path, responses.images, query, _headers(timeout_ms))


def _uploads(pictures: Sequence[PicturesInput]) -> dict[str, list[str]]:
    return {"images": [base64_picture(picture) for picture in each_picture(pictures)]}


def generate(
    *,
    model: str | None = None,
    label: str | int | None = None,
    n: int | None = None,
    seed: int | None = None,
    seeds: str | Iterable[int] | None = None,
    truncation: float | None = None,
    scale: int | None = None,
    metadata: Metadata | None = None,
    timeout_ms: int | None = None,
) -> ImagesRequest:
    """Sample images, of one class if ``label`` is given.

    Args:
        model: A name, or a name pinned to its checkpoint: ``mnist-cgan-v7@a99d8d06b407``.
        label: A class's name or index.
        n: Images, 1 if left out.
        seed: Image i has seed + i. The same seed gives the same image; random if left out.
        seeds: Instead of ``n`` and ``seed``: numbers, or a text such as ``0-3,17``.
        truncation: Scale of the latent, 0 to 1 in hundredths: lower is more typical, less varied.
        scale: Side in pixels of the square that shows each pixel of the model.
        metadata: What the PNG says about its origin: with the recipe, a mark alone, or nothing.
        timeout_ms: Deadline in milliseconds; a later answer would be of no use.
    """
    query = query_parameters(
        model=model,
        label=label,
        n=n,
        seed=seed,
        seeds=_numbers(seeds),
        truncation=truncation,
        scale=scale,
        metadata=metadata,
    )
    return _get("/generate", query, timeout_ms)


def encode(
    *pictures: PicturesInput,
    model: str | None = None,
    label: str | int | None = None,
    seed: int | None = None,
    invert: Adjustment | None = None,
    center: Adjustment | None = None,
    timeout_ms: int | None = None,
) -> Request[Posteriors]:
    """Encode pictures to a VAE's posterior.

    Args:
        pictures: One or more; the images of a response, or an array of several, count as several.
        model: A VAE.
        label: Class of the pictures, for a conditional VAE.
        seed: For z, a sample of each posterior; without one, z is mu.
        invert, center: Whether to adjust a picture to those that the model was trained on.
        timeout_ms: As for ``generate``.

    Raises:
        OSError, ValueError: a picture cannot be read.
    """
    query = query_parameters(model=model, label=label, seed=seed, invert=invert, center=center)
    headers = _headers(timeout_ms, content_type="application/json")
    body = json.dumps(_uploads(pictures)).encode()
    return Request("POST", "/encode", responses.posteriors, query, headers, body)


def decode(
    z: ArrayLike,
    *,
    model: str | None = None,
    label: str | int | None = None,
    scale: int | None = None,
    metadata: Metadata | None = None,
    timeout_ms: int | None = None,
) -> ImagesRequest:
    """Decode latents of a VAE to images.

    Args:
        z: Latents (n, Z), or (Z,) for one.
        label: As for ``encode``.
        model, scale, metadata, timeout_ms: As for ``generate``.
    """
    out = BytesIO()
    np.save(out, np.atleast_2d(np.asarray(z, dtype="<f4")), allow_pickle=False)
    query = query_parameters(
        model=model, label=label, scale=scale, metadata=metadata, format="json"
    )
    headers = _headers(timeout_ms, content_type="application/x-npy")
    return ImagesRequest("POST", "/decode", responses.images, query, headers, out.getvalue())


def reconstruct(
    *pictures: PicturesInput,
    model: str | None = None,
    label: str | int | None = None,
    show: Literal["reconstruction", "beside", "error"] | None = None,
    invert: Adjustment | None = None,
    center: Adjustment | None = None,
    scale: int | None = None,
    metadata: Metadata | None = None,
    timeout_ms: int | None = None,
) -> ImagesRequest:
    """Encode pictures with a VAE, then decode them.

    Args:
        pictures: One or more; the images of a response, or an array of several, count as several.
        show: The reconstruction alone, beside its original, or with the error as well.
        model, label, invert, center: As for ``encode``.
        scale, metadata, timeout_ms: As for ``generate``.

    Raises:
        OSError, ValueError: a picture cannot be read.
    """
    query = query_parameters(
        model=model,
        label=label,
        show=show,
        invert=invert,
        center=center,
        scale=scale,
        metadata=metadata,
    )
    return _post("/reconstruct", query, _uploads(pictures), timeout_ms)


def interpolate(
    *ends: LatentInput,
    model: str | None = None,
    label: str | int | None = None,
    steps: int | None = None,
    method: Literal["slerp", "lerp"] | None = None,
    truncation: float | None = None,
    invert: Adjustment | None = None,
    center: Adjustment | None = None,
    scale: int | None = None,
    metadata: Metadata | None = None,
    timeout_ms: int | None = None,
) -> ImagesRequest:
    """Interpolate between points of the latent space.

    Args:
        ends: Two or more points: each a seed, a latent (floats) or, for a VAE, a picture.
        steps: Images in all.
        method: Spherical or linear interpolation.
        invert, center: As for ``encode``.
        model, label, truncation, scale, metadata, timeout_ms: As for ``generate``.

    Raises:
        OSError, ValueError: a picture cannot be read.
        ValueError: a point is a bool.
    """
    query = query_parameters(
        model=model,
        label=label,
        steps=steps,
        method=method,
        truncation=truncation,
        invert=invert,
        center=center,
        scale=scale,
        metadata=metadata,
    )
    sources = [latent_source(end) for end in ends]
    if all(list(source) == ["seed"] for source in sources):
        seeds = ",".join(str(source["seed"]) for source in sources)
        return _get("/interpolate", query | {"seeds": seeds}, timeout_ms)
    return _post("/interpolate", query, {"ends": sources}, timeout_ms)


def traverse(
    start: LatentInput | None = None,
    *,
    model: str | None = None,
    label: str | int | None = None,
    axes: str | Iterable[int] | None = None,
    low: float | None = None,
    high: float | None = None,
    steps: int | None = None,
    truncation: float | None = None,
    invert: Adjustment | None = None,
    center: Adjustment | None = None,
    scale: int | None = None,
    metadata: Metadata | None = None,
    timeout_ms: int | None = None,
) -> ImagesRequest:
    """Vary one axis of the latent space at a time.

    Args:
        start: Point to start from: a seed, a latent (floats) or, for a VAE, a picture; a random
            seed if left out.
        axes: Numbers, or a text such as ``0-3,17``.
        low, high: First and last value on each axis.
        steps: Images per axis.
        invert, center: As for ``encode``.
        model, label, truncation, scale, metadata, timeout_ms: As for ``generate``.

    Raises:
        OSError, ValueError: a picture cannot be read.
        ValueError: ``start`` is a bool.
    """
    query = query_parameters(
        model=model,
        label=label,
        axes=_numbers(axes),
        low=low,
        high=high,
        steps=steps,
        truncation=truncation,
        invert=invert,
        center=center,
        scale=scale,
        metadata=metadata,
    )
    source = {} if start is None else latent_source(start)
    if set(source) <= {"seed"}:
        return _get("/traverse", query | query_parameters(**source), timeout_ms)
    return _post("/traverse", query, source, timeout_ms)


def verify(file: FileInput, *, timeout_ms: int | None = None) -> Request[Verification]:
    """Check a PNG or WebP of the service against its recipe, pixel for pixel.

    Args:
        file: A path, or the file's content. An image that Pillow opened has lost the recipe.
        timeout_ms: As for ``generate``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is an image that Pillow opened.
    """
    if isinstance(file, PillowImage.Image):
        raise ValueError(
            "an image opened with Pillow has lost its recipe; pass the file's path or bytes"
        )
    body = file_bytes(file)
    headers = _headers(timeout_ms, content_type=media_type(body))
    return Request("POST", "/verify", responses.verification, {}, headers, body)


def models() -> Request[ModelList]:
    """List the models."""
    return Request("GET", "/models", responses.model_list, headers={"accept": "application/json"})


def model(name: str) -> Request[ModelCard]:
    """Get a model's card.

    Args:
        name: As in the list of ``models``.
    """
    path = f"/models/{quote(name, safe='@')}"
    return Request("GET", path, responses.model_card, headers={"accept": "application/json"})


def status() -> Request[Status]:
    """Get the state of the service: queue, counters, cost of forward passes."""
    return Request("GET", "/status", responses.status)
