"""What the service answers, as Python has it."""

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, TypedDict, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from genserve.errors import AnswerError
from genserve.files import write_whole

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """An answer with a good status, whole."""

    headers: Mapping[str, str]  # found by names in lower case
    body: bytes


# What is JSON there is the same dictionary here; app.rendering.schemas says what each field means.


class ModelCard(TypedDict):
    """One model."""

    name: str
    kind: str
    operations: list[str]
    labels: list[str]
    latent_dim: int
    image_shape: list[int]
    digest: str
    reproducibility: str
    engine: str
    device: str
    data: dict[str, Any]
    training: dict[str, Any]
    metrics: dict[str, Any]
    pictures: dict[str, str]


class ModelList(TypedDict):
    """What is served."""

    default: str
    default_encoder: str | None
    max_n: int
    models: list[ModelCard]
    refused: dict[str, str]


class Recipe(TypedDict):
    """What a picture says of how it was made."""

    model: str
    digest: str
    label: int | None
    truncation: float
    layout: str
    scale: int
    seeds: str


class Verification(TypedDict):
    """Whether a picture is what its recipe makes: same, different or unknown_model."""

    verdict: str
    detail: str
    recipe: Recipe
    model: str | None
    reproducibility: str | None
    different_pixels: int | None
    largest_difference: int | None


class Status(TypedDict):
    """How things stand now."""

    version: str
    uptime_seconds: float
    processes: int
    draining: bool
    requests_in_flight: int
    queued_images: int
    predicted_wait_seconds: float
    requests: int
    refused_requests: int
    images: int
    forward_passes: int
    models: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Image:
    """One image. What an operation does not tell of its images is None."""

    png: bytes
    digest: str  # SHA-256 of png
    seed: int | None = None
    label: str | None = None  # the class's name
    permalink: str | None = None  # a GET of it gives the same png
    at: float | None = None  # of /interpolate: 0 = the first end, 1 = the second …
    axis: int | None = None  # of /traverse
    value: float | None = None  # on that axis
    error: float | None = None  # of /reconstruct: mean squared, pixels 0 to 1
    picture: Any = None  # what was done to an upload so that it fits the model

    @property
    def pil(self) -> PillowImage.Image:
        """For Pillow."""
        with PillowImage.open(BytesIO(self.png)) as picture:
            picture.load()
            return picture

    @property
    def array(self) -> NDArray[np.uint8]:
        """(H, W) grey or (H, W, 3) RGB."""
        return np.asarray(self.pil)

    def _repr_png_(self) -> bytes:  # notebooks show it
        return self.png


@dataclass(frozen=True)
class Images(Sequence[Image]):
    """Images in the order in which they were asked for."""

    model: str
    items: tuple[Image, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Image]:
        return iter(self.items)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Image, ...]: ...
    def __getitem__(self, index: int | slice) -> Image | tuple[Image, ...]:
        return self.items[index]

    @property
    def pil(self) -> list[PillowImage.Image]:
        """For Pillow."""
        return [image.pil for image in self.items]

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """(n, H, W[, 3])."""
        return np.stack([image.array for image in self.items])

    @property
    def seeds(self) -> list[int | None]:
        """One an image; None of what comes from no seed."""
        return [image.seed for image in self.items]

    @property
    def labels(self) -> list[str | None]:
        """Names of classes; None of what has none."""
        return [image.label for image in self.items]


@dataclass(frozen=True)
class Posteriors:
    """Where a VAE's encoder puts pictures: N(mu, exp(logvar)), each array (n, Z) in float32."""

    model: str
    seed: int | None  # of the first picture's z
    mu: NDArray[np.float32]
    logvar: NDArray[np.float32]
    z: NDArray[np.float32]  # a draw by the seed; mu without one


@dataclass(frozen=True)
class File:
    """A file as the service made it."""

    body: bytes
    media: str  # its type
    model: str | None
    seed: int | None  # of the first image
    permalink: str | None  # a GET of it gives the same bytes

    def save(self, path: str | Path) -> None:
        """Write it."""
        write_whole(Path(path), self.body)


def _reader(read: Callable[[Answer], T]) -> Callable[[Answer], T]:
    """``read``, but what it stumbles on is an AnswerError."""

    def safely(answer: Answer) -> T:
        try:
            return read(answer)
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            media = answer.headers.get("content-type", "no type")
            raise AnswerError(
                f"an answer of {len(answer.body)} bytes ({media}) is not what Genserve gives: "
                f"{type(error).__name__}: {error}"
            ) from error

    return safely


def _object(answer: Answer) -> dict[str, Any]:
    found = json.loads(answer.body)
    if not isinstance(found, dict):
        raise TypeError(f"JSON, but {type(found).__name__}")
    return found


_FIELDS = {field.name for field in fields(Image)}


def _image(item: dict[str, Any]) -> Image:
    known = {name: value for name, value in item.items() if name in _FIELDS}
    return Image(png=base64.b64decode(item["image"], validate=True), **known)


@_reader
def images(answer: Answer) -> Images:
    """Images as JSON."""
    told = _object(answer)
    return Images(str(told["model"]), tuple(_image(item) for item in told["items"]))


@_reader
def posteriors(answer: Answer) -> Posteriors:
    """Encodings."""
    told = _object(answer)
    mu, logvar, z = (
        np.array([item[name] for item in told["items"]], dtype=np.float32)
        for name in ("mu", "logvar", "z")
    )
    return Posteriors(str(told["model"]), told["seed"], mu, logvar, z)


_MEDIA = {
    "json": ("application/json",),
    "npy": ("application/x-npy",),
    "png": ("image/png", "image/apng"),
    "webp": ("image/webp",),
    "zip": ("application/zip",),
}


def file(form: str) -> Callable[[Answer], File]:
    """A file of this form: png, webp, npy, json, zip."""

    def read(answer: Answer) -> File:
        media = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media not in _MEDIA[form]:
            raise ValueError(f"it is no {form}")
        if form == "json":
            json.loads(answer.body)
        return _file(answer)

    return _reader(read)


def _file(answer: Answer) -> File:
    headers = answer.headers
    seed = headers.get("x-seed")
    return File(
        answer.body,
        headers.get("content-type", "application/octet-stream"),
        headers.get("x-model"),
        None if seed is None else int(seed),
        headers.get("content-location"),
    )


@_reader
def model_list(answer: Answer) -> ModelList:
    """What is served."""
    return cast(ModelList, _object(answer))


@_reader
def model_card(answer: Answer) -> ModelCard:
    """One model."""
    return cast(ModelCard, _object(answer))


@_reader
def verification(answer: Answer) -> Verification:
    """A verdict."""
    told = cast(Verification, _object(answer))
    str(told["verdict"])  # or it is none
    return told


@_reader
def status(answer: Answer) -> Status:
    """How things stand."""
    return cast(Status, _object(answer))
