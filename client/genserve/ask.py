"""How each operation is asked for, and how its answer is read. Nothing here sends anything.

``Client`` and ``AsyncClient`` have a method for each of these functions, with its arguments.
An argument that is left out is not sent, so the service's own defaults hold.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any, Generic, Literal, TypeAlias, TypeVar
from urllib.parse import quote

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image as PillowImage

from genserve import answers
from genserve.answers import (
    Answer,
    File,
    Images,
    ModelCard,
    ModelList,
    Posteriors,
    Status,
    Verification,
)
from genserve.pictures import File as FileArgument
from genserve.pictures import (
    Picture,
    base64_text,
    checked,
    file_bytes,
    media_type,
    picture_bytes,
)

T_co = TypeVar("T_co", covariant=True)

ImageFormat: TypeAlias = Literal["png", "webp", "npy", "json", "zip"]
Layout: TypeAlias = Literal["grid", "strip", "animation"]
Metadata: TypeAlias = Literal["full", "mark", "none"]
Choice: TypeAlias = Literal["auto", "yes", "no"]
End: TypeAlias = int | Picture | NDArray[np.floating[Any]] | Sequence[float]  # of a path


@dataclass(frozen=True)
class Call(Generic[T_co]):
    """A request, and how its answer is read."""

    method: Literal["GET", "POST"]
    path: str
    read: Callable[[Answer], T_co]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def raw(self, form: ImageFormat = "json") -> "Call[File]":
        """The same, its answer as the service gives it."""
        return replace(self, read=answers.file(form))  # type: ignore[return-value,arg-type]


class ImagesCall(Call[Images]):
    """A request for images."""

    def file(
        self,
        format: ImageFormat,
        *,
        layout: Layout | None = None,
        frame_ms: int | None = None,
    ) -> Call[File]:
        """The same, its answer a file.

        Args:
            format: Of the file: a PNG or WebP shows several images in one, npy is uint8
                (n, H, W[, 3]), a ZIP has a PNG an image.
            layout: Several images in one PNG or WebP.
            frame_ms: Milliseconds an image of an animation.
        """
        query = {**self.query, **_query(format=format, layout=layout, frame_ms=frame_ms)}
        return replace(self, query=query).raw(format)


def _query(**values: object) -> dict[str, str]:
    """The parameters that are given; 0.1 + 0.2 is written 0.3."""
    return {
        name: format(value, ".12g") if isinstance(value, float) else str(value)
        for name, value in values.items()
        if value is not None
    }


def _headers(timeout_ms: int | None, **others: str) -> dict[str, str]:
    told = {name.replace("_", "-"): value for name, value in others.items()}
    return told if timeout_ms is None else {**told, "x-timeout-ms": str(timeout_ms)}


def _seeds(seeds: str | Iterable[int] | None) -> str | None:
    return seeds if seeds is None or isinstance(seeds, str) else ",".join(map(str, seeds))


def _posted(
    path: str, query: dict[str, str], content: object, timeout_ms: int | None
) -> ImagesCall:
    """JSON in, images out."""
    body = json.dumps(content).encode()
    headers = _headers(timeout_ms, content_type="application/json")
    return ImagesCall("POST", path, answers.images, query | {"format": "json"}, headers, body)


def _got(path: str, query: dict[str, str], timeout_ms: int | None) -> ImagesCall:
    """Images out."""
    query = query | {"format": "json"}
    return ImagesCall("GET", path, answers.images, query, _headers(timeout_ms))


def _uploads(pictures: Sequence[Picture]) -> dict[str, list[str]]:
    return {"images": [base64_text(picture_bytes(picture)) for picture in pictures]}


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
) -> ImagesCall:
    """Sample images, of a class if one is asked for.

    Args:
        model: A name, or a name pinned to its checkpoint: ``mnist-cgan-v6@ae2f504ba156``.
        label: A class's name or index.
        n: Images, 1 if left out.
        seed: Image i has seed + i, and the same seed gives the same image; drawn if left out.
        seeds: Instead of both: numbers, or a text such as ``0-3,17``.
        truncation: Scales the latent, 0 to 1 in hundredths.
        scale: Draws each pixel as a square of so many.
        metadata: What a PNG says of itself.
        timeout_ms: Milliseconds in which the answer is of use.
    """
    query = _query(
        model=model,
        label=label,
        n=n,
        seed=seed,
        seeds=_seeds(seeds),
        truncation=truncation,
        scale=scale,
        metadata=metadata,
    )
    return _got("/generate", query, timeout_ms)


def encode(
    *pictures: Picture,
    model: str | None = None,
    seed: int | None = None,
    invert: Choice | None = None,
    center: Choice | None = None,
    timeout_ms: int | None = None,
) -> Call[Posteriors]:
    """The places of pictures in a VAE's latent space.

    Args:
        pictures: One or more.
        model: A VAE.
        seed: For z, a draw from each place; z is mu without one.
        invert, center: How a picture is fitted to what the model has learned from.
        timeout_ms: As for ``generate``.

    Raises:
        OSError, ValueError: a picture cannot be read.
    """
    query = _query(model=model, seed=seed, invert=invert, center=center)
    headers = _headers(timeout_ms, content_type="application/json")
    body = json.dumps(_uploads(pictures)).encode()
    return Call("POST", "/encode", answers.posteriors, query, headers, body)


def decode(
    z: ArrayLike,
    *,
    model: str | None = None,
    scale: int | None = None,
    metadata: Metadata | None = None,
    timeout_ms: int | None = None,
) -> ImagesCall:
    """The pictures at places in a VAE's latent space.

    Args:
        z: (n, Z), or (Z,) for one.
        model, scale, metadata, timeout_ms: As for ``generate``.
    """
    out = BytesIO()
    np.save(out, np.atleast_2d(np.asarray(z, dtype="<f4")), allow_pickle=False)
    query = _query(model=model, scale=scale, metadata=metadata, format="json")
    headers = _headers(timeout_ms, content_type="application/x-npy")
    return ImagesCall("POST", "/decode", answers.images, query, headers, out.getvalue())


def reconstruct(
    *pictures: Picture,
    model: str | None = None,
    show: Literal["reconstruction", "beside", "error"] | None = None,
    invert: Choice | None = None,
    center: Choice | None = None,
    scale: int | None = None,
    metadata: Metadata | None = None,
    timeout_ms: int | None = None,
) -> ImagesCall:
    """What a VAE keeps of pictures: encoded, then decoded.

    Args:
        pictures: One or more.
        show: The reconstruction, or beside the original, or with the error too.
        model, invert, center: As for ``encode``.
        scale, metadata, timeout_ms: As for ``generate``.

    Raises:
        OSError, ValueError: a picture cannot be read.
    """
    query = _query(
        model=model, show=show, invert=invert, center=center, scale=scale, metadata=metadata
    )
    return _posted("/reconstruct", query, _uploads(pictures), timeout_ms)


def _end(end: End) -> dict[str, object]:
    """An end of a path: a seed, a place in the latent space, or a picture."""
    if isinstance(end, bool):
        raise ValueError(f"{end} is no end of a path; allowed: a seed, a latent, a picture")
    if isinstance(end, int | np.integer):
        return {"seed": int(end)}
    if isinstance(end, np.ndarray):
        if end.ndim == 1:
            return {"z": [float(number) for number in end]}
        return {"image": base64_text(picture_bytes(checked(end)))}
    if isinstance(end, Sequence) and not isinstance(end, str | bytes):
        return {"z": [float(number) for number in end]}
    return {"image": base64_text(picture_bytes(end))}


def interpolate(
    *ends: End,
    model: str | None = None,
    label: str | int | None = None,
    steps: int | None = None,
    method: Literal["slerp", "lerp"] | None = None,
    truncation: float | None = None,
    invert: Choice | None = None,
    center: Choice | None = None,
    scale: int | None = None,
    metadata: Metadata | None = None,
    timeout_ms: int | None = None,
) -> ImagesCall:
    """A path through the latent space.

    Args:
        ends: Two or more: a seed, a latent (floating-point numbers), or a picture, for a VAE.
        steps: Images in all.
        method: Along the sphere or along the straight line.
        invert, center: As for ``encode``.
        model, label, truncation, scale, metadata, timeout_ms: As for ``generate``.

    Raises:
        OSError, ValueError: a picture cannot be read.
        ValueError: an end is a bool.
    """
    query = _query(
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
    told = [_end(end) for end in ends]
    if all(list(end) == ["seed"] for end in told):
        seeds = ",".join(str(end["seed"]) for end in told)
        return _got("/interpolate", query | {"seeds": seeds}, timeout_ms)
    return _posted("/interpolate", query, {"ends": told}, timeout_ms)


def traverse(
    start: End | None = None,
    *,
    model: str | None = None,
    label: str | int | None = None,
    axes: str | Iterable[int] | None = None,
    low: float | None = None,
    high: float | None = None,
    steps: int | None = None,
    truncation: float | None = None,
    invert: Choice | None = None,
    center: Choice | None = None,
    scale: int | None = None,
    metadata: Metadata | None = None,
    timeout_ms: int | None = None,
) -> ImagesCall:
    """What single axes of the latent space do.

    Args:
        start: Where: a seed, a latent (floating-point numbers), or a picture, for a VAE; a seed is
            drawn if left out.
        axes: Numbers, or a text such as ``0-3,17``.
        low, high: From where to where each goes.
        steps: Images an axis.
        invert, center: As for ``encode``.
        model, label, truncation, scale, metadata, timeout_ms: As for ``generate``.

    Raises:
        OSError, ValueError: a picture cannot be read.
        ValueError: ``start`` is a bool.
    """
    query = _query(
        model=model,
        label=label,
        axes=_seeds(axes),
        low=low,
        high=high,
        steps=steps,
        truncation=truncation,
        invert=invert,
        center=center,
        scale=scale,
        metadata=metadata,
    )
    told = {} if start is None else _end(start)
    if set(told) <= {"seed"}:
        return _got("/traverse", query | _query(**told), timeout_ms)
    return _posted("/traverse", query, told, timeout_ms)


def verify(file: FileArgument, *, timeout_ms: int | None = None) -> Call[Verification]:
    """Whether a PNG or WebP of the service is what its recipe makes, pixel for pixel.

    Args:
        file: A path, or what the file holds: not an opened image, which has lost the recipe.
        timeout_ms: As for ``generate``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is an opened image.
    """
    if isinstance(file, PillowImage.Image):
        raise ValueError("an opened image has lost its recipe; give the file's path or bytes")
    body = file_bytes(file)
    headers = _headers(timeout_ms, content_type=media_type(body))
    return Call("POST", "/verify", answers.verification, {}, headers, body)


def models() -> Call[ModelList]:
    """What is served."""
    return Call("GET", "/models", answers.model_list, headers={"accept": "application/json"})


def model(name: str) -> Call[ModelCard]:
    """One model's card.

    Args:
        name: As ``models`` lists it.
    """
    path = f"/models/{quote(name, safe='@')}"
    return Call("GET", path, answers.model_card, headers={"accept": "application/json"})


def status() -> Call[Status]:
    """Queue, counts, and what forward passes cost."""
    return Call("GET", "/status", answers.status)
