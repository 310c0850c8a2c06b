"""Bodies of requests and responses in JSON, with examples; the OpenAPI is made from these.

The names of classes are the names of components there. Those of the Open Inference Protocol are in
``oip_schemas``.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from app.fitting.adapt import Step
from app.formats.reading.uploads import Upload
from app.seeds import MAX_SEED

MAX_ENDS = 16  # of a path


class StrictModel(BaseModel):
    """Fields that are not declared are refused."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str = Field(description="page of this kind of error", examples=["/problems/overloaded"])
    title: str
    status: int
    detail: str = Field(description="what is wrong, what is allowed, what to do")
    request_id: str = Field(description="the response's X-Request-ID, as logs have it")
    errors: list[dict[str, str]] | None = Field(
        default=None, description="pointer and detail by place"
    )
    retry_after: int | None = Field(default=None, description="seconds after which to try again")


class ProblemKind(StrictModel):
    """One kind of error."""

    status: int
    title: str
    about: str = Field(description="what it means, and what to do")
    example: str = Field(description="an example of detail")


class PictureNote(StrictModel):
    """What was done to an uploaded picture before the model read it."""

    width: int = Field(description="pixels of the file")
    height: int
    steps: list[Step] = Field(
        description="in their order; empty = none", examples=[["inverted", "centred"]]
    )

    @classmethod
    def of(cls, upload: Upload) -> "PictureNote":
        """The note on an upload."""
        return cls(width=upload.width, height=upload.height, steps=list(upload.steps))


Fit: Any = Field(
    default=None,
    ge=0,
    le=1,
    description="of an upload: share of held-out training pictures that fit the model worse; under "
    "0.01 it is probably nothing that the model knows. none = the checkpoint has no table of it",
)


class ImageItem(StrictModel):
    """One image."""

    image: str = Field(description="PNG, base64")
    digest: str = Field(description="SHA-256 of that PNG, hex")
    seed: int | None = Field(default=None, description="the seed that generates this image again")
    label: str | None = Field(
        default=None, description="class name; none for an unconditional model"
    )
    permalink: str | None = Field(default=None, description="GET returns the same PNG")
    at: float = Field(
        default=0, description="/interpolate: place on the path; 0 = first end, 1 = second end..."
    )
    axis: int = Field(default=0, description="/traverse: index of the number that was set")
    value: float = Field(default=0, description="/traverse: the value it was set to")
    error: float = Field(
        default=0, description="/reconstruct: mean squared difference from the picture, pixels 0-1"
    )
    picture: PictureNote | None = Field(default=None, description="the upload it was made from")
    fit: float | None = Fit


class ImageList(StrictModel):
    """Images as JSON."""

    model: str
    items: list[ImageItem]


class PosteriorItem(StrictModel):
    """The encoder's posterior for one picture: N(mu, exp(logvar)) in the latent space."""

    mu: list[float] = Field(description="mean, one number a dimension")
    logvar: list[float] | None = Field(
        description="log of the variance; none: the model encodes a picture to one latent, mu"
    )
    z: list[float] = Field(description="mu + exp(logvar / 2) * noise of the seed; mu without one")
    picture: PictureNote
    fit: float | None = Fit


class PosteriorList(StrictModel):
    """Encodings as JSON."""

    model: str
    seed: int | None = Field(default=None, description="seed of z's noise for the first picture")
    items: list[PosteriorItem]


def list_parts(
    whole: ImageList | PosteriorList,
    items: Iterable[ImageItem | PosteriorItem],
    exclude_unset: bool = False,
) -> Iterator[bytes]:
    """The JSON of a list in parts, an item each.

    Args:
        whole: Without items, which are its last member.
        items: Asked for one by one.
        exclude_unset: Leave out what was not given.
    """
    yield whole.model_dump_json(exclude_unset=exclude_unset).encode().removesuffix(b"]}")
    between = b""
    for item in items:
        yield between + item.model_dump_json(exclude_unset=exclude_unset).encode()
        between = b","
    yield b"]}"


_Finite = Annotated[float, Field(ge=-1000, le=1000)]


class Latents(StrictModel):
    """What /decode reads as JSON."""

    z: list[list[_Finite]] = Field(
        min_length=1, description="latents, each with the model's latent_dim numbers (-1e3 to 1e3)"
    )


class Pictures(StrictModel):
    """What /encode and /reconstruct read as JSON."""

    images: list[str] = Field(min_length=1, description="PNG, JPEG or WebP files, base64")


class _SeedEnd(StrictModel):
    """An end by its seed."""

    seed: int = Field(ge=0, le=MAX_SEED)


class _LatentEnd(StrictModel):
    """An end by its latent."""

    z: list[_Finite] = Field(min_length=1, description="the model's latent_dim numbers")


class _PictureEnd(StrictModel):
    """An end by a picture."""

    image: str = Field(description="PNG, JPEG or WebP file, base64")


class End(RootModel[_SeedEnd | _LatentEnd | _PictureEnd]):
    """What /traverse reads as JSON."""


class Ends(StrictModel):
    """What /interpolate reads as JSON."""

    ends: list[End] = Field(
        min_length=2, max_length=MAX_ENDS, examples=[[{"seed": 3}, {"seed": 17}]]
    )


class RecipeBody(StrictModel):
    """How a picture was generated, as its file says."""

    model: str = Field(description="name at that time")
    digest: str = Field(description="SHA-256 of its checkpoint")
    label: int | None = Field(description="class index; none = none, or drawn from each seed")
    truncation: float
    layout: Literal["grid", "strip"]
    scale: int
    seeds: str = Field(description="in the order of the images", examples=["0-3,17"])


class Verification(StrictModel):
    """Whether a picture is what its recipe generates."""

    verdict: Literal["same", "different", "unknown_model"] = Field(
        description="same: every pixel is what the recipe generates here; unknown_model: no model "
        "of the recipe's digest is served, so nothing can be said"
    )
    detail: str = Field(description="the verdict as a sentence")
    recipe: RecipeBody
    model: str | None = Field(description="name under which the recipe's digest is served")
    reproducibility: str | None = Field(
        description="grade of that model here; portable: what differs was changed; exact: it may "
        "come from another machine; visual: from the device"
    )
    different_pixels: int | None = Field(
        description="of a picture of the same size; unless the model is portable, a few that "
        "differ by one level may come from another processor or engine"
    )
    largest_difference: int | None = Field(description="levels, of 255")


class LatentPart(StrictModel):
    """One noise input of a model."""

    name: str = Field(examples=["z"])
    shape: list[int] = Field(examples=[[64]])
    distribution: str = Field(
        description="of the numbers that a seed gives: normal; uniform, -1 to 1; "
        "truncated_normal, within -2 to 2; sphere, of length 1; categorical, one-hot along the "
        "last axis"
    )


class ModelCard(StrictModel):
    """One loaded model, and what its checkpoint states."""

    name: str
    kind: str = Field(examples=["cgan"])
    operations: list[str] = Field(examples=[["generate"]])
    labels: list[str] = Field(description="class names by index; empty = unconditional")
    latent_dim: int = Field(description="numbers of a latent")
    latent: list[LatentPart] = Field(
        description="what a latent's numbers are, in order; each part in C order"
    )
    truncation: bool = Field(description="whether the parameter truncation can be other than 1")
    image_shape: list[int] = Field(
        description="channels (1 grey, 3 RGB, 4 RGBA), height, width", examples=[[1, 28, 28]]
    )
    digest: str = Field(description="SHA-256 of the checkpoint")
    reproducibility: str = Field(
        description="as measured at start-up on this device. portable: a seed gives the same "
        "bytes on every machine; exact: whatever the batch; visual: it may differ by a grey level"
    )
    engine: str = Field(
        description="what runs it, onnx or torch: unless the model is portable, the two may "
        "differ in a last bit, so the bytes of a seed depend on it"
    )
    device: str
    data: dict[str, Any] = Field(description="dataset and its licence")
    training: dict[str, Any] = Field(description="recipe, seed, images seen, versions")
    metrics: dict[str, Any] = Field(description="measured figures")
    pictures: dict[str, str] = Field(
        description="addresses of the card's pictures, by what they show: samples, morph, nearest, "
        "map, curves, film (of the training), as far as the store has them"
    )


class ModelList(StrictModel):
    """What is served."""

    default: str | None = Field(
        description="model of a request that names none; none = several could be meant, so "
        "requests have to name one"
    )
    default_encoder: str | None = Field(
        description="model of /encode and all else that takes a picture or a latent; none = none "
        "encodes, or several do, and none is chosen"
    )
    aliases: dict[str, str] = Field(
        description="further names of models, each with the model's own"
    )
    max_n: int = Field(description="most images, pictures or latents of one request")
    models: list[ModelCard]
    refused: dict[str, str] = Field(description="files of the store not served, with the reason")


class Readiness(StrictModel):
    """Whether every model answers."""

    ready: bool
    models: list[str]


class Cost(StrictModel):
    """Duration of one forward pass."""

    images: int = Field(description="size of the pass; batches are split and padded to these sizes")
    milliseconds: float = Field(description="as measured at start-up")


class OperationStatus(StrictModel):
    """One operation of a model."""

    images_per_second: float = Field(
        description="rate of full batches, all processes together, from which waits are predicted; "
        "measured at start-up and in every call since"
    )
    passes: list[Cost] = Field(description="sizes in use, in the process that responds")
    max_batch: int = Field(description="most images of one batch, in the process that responds")


class ModelStatus(StrictModel):
    """How one model runs."""

    engine: str
    device: str
    reproducibility: str
    operations: dict[str, OperationStatus]


class Status(StrictModel):
    """The service's state; counts are of all processes since the service started."""

    version: str
    uptime_seconds: float = Field(description="of the process that responds")
    processes: int
    draining: bool
    requests_in_flight: int
    queued_images: int
    predicted_wait_seconds: float = Field(
        description="until all that is queued should be done, in the process where that is longest"
    )
    requests: int = Field(description="answered, with any status")
    refused_requests: int = Field(description="refused because of load")
    images: int = Field(description="that a model generated, encoded or decoded")
    forward_passes: int
    models: dict[str, ModelStatus]


# Bodies that the routes parse or write themselves, which FastAPI therefore does not collect.
EXTRA_SCHEMAS = (Problem, ImageList, Latents, Pictures, End, Ends)


def reference(schema: type[BaseModel]) -> dict[str, str]:
    """How the OpenAPI refers to a schema."""
    return {"$ref": f"#/components/schemas/{schema.__name__}"}
