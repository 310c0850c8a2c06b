"""What the client's methods return: images, latents, files, JSON objects."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any, TypedDict, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from genserve.files import write_atomically

NEAREST = PillowImage.Resampling.NEAREST
_SHOWN_SIDE = 112  # pixels of an image of a sheet in a notebook, at least
_MOST_COLUMNS = 8


def _short(name: str, **fields: object) -> str:
    """A representation of one line; fields that are None are left out."""
    given = [f"{key}={value!r}" for key, value in fields.items() if value is not None]
    return f"{name}({', '.join(given)})"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True, repr=False)
class Image:
    """One image. A field that does not apply to the operation is None."""

    png: bytes
    digest: str  # SHA-256 of png
    seed: int | None = None
    label: str | None = None  # the class's name
    permalink: str | None = None  # GET returns the same png
    at: float | None = None  # interpolate: 0 = the first point, 1 = the second …
    axis: int | None = None  # traverse
    value: float | None = None  # traverse: on that axis
    error: float | None = None  # reconstruct: mean squared error, pixels 0 to 1
    picture: Any = None  # how an upload was fitted to the model
    fit: float | None = None  # of an upload: share of held-out training pictures that fit worse

    def __repr__(self) -> str:
        names = ("seed", "label", "at", "axis", "value", "error", "fit")
        return _short("Image", **{name: getattr(self, name) for name in names})

    @property
    def pil(self) -> PillowImage.Image:
        """As Pillow's image."""
        with PillowImage.open(BytesIO(self.png)) as picture:
            picture.load()
            return picture

    @property
    def array(self) -> NDArray[np.uint8]:
        """Pixels: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA."""
        return np.asarray(self.pil)

    def _repr_png_(self) -> bytes:  # shown by notebooks
        return self.png


@dataclass(frozen=True, repr=False)
class Images(Sequence[Image]):
    """Images in the order requested."""

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
        """As Pillow's images."""
        return [image.pil for image in self.items]

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """Pixels: (n, H, W) grey, (n, H, W, 3) RGB or (n, H, W, 4) RGBA."""
        return np.stack([image.array for image in self.items])

    @property
    def sheet(self) -> PillowImage.Image:
        """All of them in one picture, up to eight in a row, each pixel a square."""
        pictures = self.pil
        width, height = max(p.width for p in pictures), max(p.height for p in pictures)
        scale = max(1, round(_SHOWN_SIDE / max(width, height)))
        columns = min(len(pictures), _MOST_COLUMNS)
        rows = -(-len(pictures) // columns)
        result = PillowImage.new(pictures[0].mode, (columns * width, rows * height))
        for index, picture in enumerate(pictures):
            result.paste(picture, (index % columns * width, index // columns * height))
        return result.resize((result.width * scale, result.height * scale), NEAREST)

    def __repr__(self) -> str:
        labels = sorted({image.label for image in self.items if image.label is not None})
        return _short("Images", model=self.model, n=len(self), labels=labels or None)

    def _repr_png_(self) -> bytes | None:  # shown by notebooks
        if not self.items:
            return None
        out = BytesIO()
        self.sheet.save(out, "PNG")
        return out.getvalue()

    def _repr_html_(self) -> str:
        png = self._repr_png_()
        image = "" if png is None else f"<img alt='' src='data:image/png;base64,{_text(png)}'>"
        return f"{image}<div>{escape(repr(self))}</div>"

    @property
    def seeds(self) -> list[int | None]:
        """One per image; None = not made from a seed."""
        return [image.seed for image in self.items]

    @property
    def labels(self) -> list[str | None]:
        """Class name per image; None = the model has no classes."""
        return [image.label for image in self.items]


@dataclass(frozen=True, repr=False)
class Posteriors:
    """A VAE's posterior per picture, N(mu, exp(logvar)). Each array is (n, Z) in float32.

    An imported autoencoder may encode to one latent, mu: then logvar is -inf.
    """

    model: str
    seed: int | None  # of the first picture's z
    mu: NDArray[np.float32]
    logvar: NDArray[np.float32]
    z: NDArray[np.float32]  # a sample by the seed; mu without one
    fit: tuple[float | None, ...] = ()  # as ``Image.fit``, of each picture

    def __len__(self) -> int:
        return len(self.mu)

    def __repr__(self) -> str:
        fit = list(self.fit) if any(value is not None for value in self.fit) else None
        count, numbers = self.mu.shape
        return _short("Posteriors", model=self.model, n=count, latent_dim=numbers, fit=fit)

    def _repr_html_(self) -> str:  # shown by notebooks
        rows = []
        for index, mu in enumerate(self.mu):
            largest = ", ".join(f"z{axis} = {mu[axis]:.2f}" for axis in np.argsort(-abs(mu))[:4])
            fit = self.fit[index] if index < len(self.fit) else None
            cells = index, f"{np.linalg.norm(mu):.2f}", largest, "" if fit is None else f"{fit:g}"
            rows.append("".join(f"<td>{cell}</td>" for cell in cells))
        heads = "".join(f"<th>{head}</th>" for head in ("", "|mu|", "largest of mu", "fit"))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<div>{escape(repr(self))}</div><table><tr>{heads}</tr>{body}</table>"


@dataclass(frozen=True)
class File:
    """A file exactly as the service returned it."""

    body: bytes
    media: str  # media type
    model: str | None
    seed: int | None  # of the first image
    permalink: str | None  # GET returns the same bytes

    def save(self, path: str | Path) -> None:
        """Write it to ``path``.

        Raises:
            OSError: it cannot be written; what was there before is unchanged.
        """
        write_atomically(Path(path), self.body)


# JSON objects of the service, as they are. Its OpenAPI document says what each field means.


class ModelCard(TypedDict):
    """A model."""

    name: str
    kind: str
    operations: list[str]
    labels: list[str]
    latent_dim: int
    latent: list[dict[str, Any]]
    truncation: bool
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
    """The models that the service offers, and the checkpoints that it refused."""

    default: str | None
    default_encoder: str | None
    aliases: dict[str, str]
    max_n: int
    models: list[ModelCard]
    refused: dict[str, str]


class Recipe(TypedDict):
    """How a picture was made, as its metadata say."""

    model: str
    digest: str
    label: int | None
    truncation: float
    layout: str
    scale: int
    seeds: str


class Verification(TypedDict):
    """Whether a picture matches its recipe; the verdict is same, different or unknown_model."""

    verdict: str
    detail: str
    recipe: Recipe
    model: str | None
    reproducibility: str | None
    different_pixels: int | None
    largest_difference: int | None


class Status(TypedDict):
    """State of the service: load, counters, costs."""

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
