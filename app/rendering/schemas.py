"""Bodies of requests and answers, with examples; the OpenAPI is made from these."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from app.formats.uploads import Step
from app.seeds import MAX_SEED

MAX_ENDS = 16  # of a path


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str = Field(description="page of this kind of error", examples=["/problems/overloaded"])
    title: str
    status: int
    detail: str = Field(description="what is wrong, what is allowed, what to do")
    request_id: str = Field(description="the answer's X-Request-ID; find it in the log")
    errors: list[dict[str, str]] | None = Field(
        default=None, description="pointer and detail by place"
    )
    retry_after: int | None = Field(default=None, description="seconds after which to try again")


class ProblemKind(_Body):
    """One kind of error."""

    status: int
    title: str
    about: str = Field(description="what it means, and what to do")
    example: str = Field(description="a detail as it may be told")


class PictureNote(_Body):
    """What was done to an uploaded picture before the model saw it."""

    width: int = Field(description="pixels of the file")
    height: int
    steps: list[Step] = Field(
        description="in their order; empty = none", examples=[["inverted", "centred"]]
    )


class ImageItem(_Body):
    """One image."""

    image: str = Field(description="PNG, base64")
    digest: str = Field(description="SHA-256 of that PNG, hex")
    seed: int | None = Field(default=None, description="the seed that gives this image again")
    label: str | None = Field(
        default=None, description="class name; none for an unconditional model"
    )
    permalink: str | None = Field(default=None, description="GET gives the same PNG")
    at: float = Field(
        default=0, description="/interpolate: place on the path; 0 = first end, 1 = second end..."
    )
    axis: int = Field(default=0, description="/traverse: index of the number that was set")
    value: float = Field(default=0, description="/traverse: what it was set to")
    error: float = Field(
        default=0, description="/reconstruct: mean squared difference from the picture, pixels 0-1"
    )
    picture: PictureNote | None = Field(default=None, description="the upload it was made from")


class ImageList(_Body):
    """Images as JSON."""

    model: str
    items: list[ImageItem]


class PosteriorItem(_Body):
    """Where the encoder puts one picture: N(mu, exp(logvar)) in the latent space."""

    mu: list[float] = Field(description="mean, one number a dimension")
    logvar: list[float] = Field(description="log of the variance")
    z: list[float] = Field(description="mu + exp(logvar / 2) * noise of the seed; mu without one")
    picture: PictureNote


class PosteriorList(_Body):
    """Encodings as JSON."""

    model: str
    seed: int | None = Field(default=None, description="seed of z's noise for the first picture")
    items: list[PosteriorItem]


_Finite = Annotated[float, Field(ge=-1000, le=1000)]


class Latents(_Body):
    """What /decode reads as JSON."""

    z: list[list[_Finite]] = Field(
        min_length=1, description="latents, each with the model's latent_dim numbers (-1e3 to 1e3)"
    )


class Pictures(_Body):
    """What /encode and /reconstruct read as JSON."""

    images: list[str] = Field(min_length=1, description="PNG, JPEG or WebP files, base64")


class _SeedEnd(_Body):
    """An end by its seed."""

    seed: int = Field(ge=0, le=MAX_SEED)


class _LatentEnd(_Body):
    """An end by its latent."""

    z: list[_Finite] = Field(min_length=1, description="the model's latent_dim numbers")


class _PictureEnd(_Body):
    """An end by a picture."""

    image: str = Field(description="PNG, JPEG or WebP file, base64")


class End(RootModel[_SeedEnd | _LatentEnd | _PictureEnd]):
    """What /traverse reads as JSON."""


class Ends(_Body):
    """What /interpolate reads as JSON."""

    ends: list[End] = Field(
        min_length=2, max_length=MAX_ENDS, examples=[[{"seed": 3}, {"seed": 17}]]
    )


class RecipeBody(_Body):
    """What a picture says of how it was made."""

    model: str = Field(description="name at that time")
    digest: str = Field(description="SHA-256 of its checkpoint")
    label: int | None = Field(description="class index; none = none, or drawn from each seed")
    truncation: float
    layout: Literal["grid", "strip"]
    scale: int
    seeds: str = Field(description="in the order of the images", examples=["0-3,17"])


class Verification(_Body):
    """Whether a picture is what its recipe makes."""

    verdict: Literal["same", "different", "unknown_model"] = Field(
        description="same: every pixel is what the recipe makes here; unknown_model: no model of "
        "the recipe's digest is served, so nothing can be said"
    )
    detail: str = Field(description="the verdict as a sentence")
    recipe: RecipeBody
    model: str | None = Field(description="name under which the recipe's digest is served")
    reproducibility: str | None = Field(
        description="grade of that model; visual: a difference by a level may be the device's"
    )
    different_pixels: int | None = Field(
        description="of a picture of the same size; few that differ by a level may have been made "
        "on another processor or engine"
    )
    largest_difference: int | None = Field(description="levels, of 255")


class ModelCard(_Body):
    """One loaded model, and what its checkpoint says of itself."""

    name: str
    kind: str = Field(examples=["cgan"])
    operations: list[str] = Field(examples=[["generate"]])
    labels: list[str] = Field(description="class names by index; empty = unconditional")
    latent_dim: int
    image_shape: list[int] = Field(description="channels, height, width", examples=[[1, 28, 28]])
    digest: str = Field(description="SHA-256 of the checkpoint")
    reproducibility: str = Field(
        description="exact: a seed gives the same bytes whatever the batch, as measured at "
        "start-up on this device; visual: it may differ by a grey level"
    )
    engine: str = Field(
        description="what runs it, onnx or torch: the two may differ in a last bit, so the bytes "
        "of a seed depend on it"
    )
    device: str
    data: dict[str, Any] = Field(description="data set and its licence")
    training: dict[str, Any] = Field(description="recipe, seed, images seen, versions")
    metrics: dict[str, Any] = Field(description="measured figures")
    pictures: dict[str, str] = Field(
        description="addresses of the card's pictures, by what they show: samples, morph, nearest, "
        "map, curves, as far as the store has them"
    )


class ModelList(_Body):
    """What is served."""

    default: str = Field(description="model of a request that names none")
    default_encoder: str | None = Field(
        description="that of /encode and what else takes a picture or a latent; none = no VAE"
    )
    max_n: int = Field(
        description="images, pictures or latents of one request at most; more take several requests"
    )
    models: list[ModelCard]
    refused: dict[str, str] = Field(description="files of the store not served, with the reason")


class Readiness(_Body):
    """Whether every model answers."""

    ready: bool
    models: list[str]


class Cost(_Body):
    """What one forward pass takes."""

    images: int = Field(description="size of the pass; batches are cut and padded to these")
    milliseconds: float = Field(description="as measured at start-up")


class OperationStatus(_Body):
    """One operation of a model."""

    images_per_second: float = Field(
        description="rate of full batches that the predicted wait is made from, all processes "
        "together; measured at start-up, and in every call from then on"
    )
    passes: list[Cost] = Field(description="sizes in use; of the process that answers")
    max_batch: int = Field(description="images of one batch at most; of the process that answers")


class ModelStatus(_Body):
    """How one model runs."""

    engine: str
    device: str
    reproducibility: str
    operations: dict[str, OperationStatus]


class Status(_Body):
    """How things stand now; counts are of all processes since the service started."""

    version: str
    uptime_seconds: float = Field(description="of the process that answers")
    processes: int
    draining: bool
    requests_in_flight: int
    queued_images: int
    predicted_wait_seconds: float = Field(
        description="of a request for one image, where that is longest"
    )
    requests: int = Field(description="answered, of any status")
    refused_requests: int = Field(description="refused because of load")
    images: int = Field(description="that went through a model")
    forward_passes: int
    models: dict[str, ModelStatus]


# What follows is the Open Inference Protocol's.


class InferenceError(_Body):
    """An error, as the Open Inference Protocol has it."""

    error: str = Field(description="what is wrong, what is allowed, what to do")


class ServerMetadata(_Body):
    """The server."""

    name: str = Field(examples=["genserve"])
    version: str
    extensions: list[str] = Field(examples=[["binary_tensor_data"]])


class Liveness(_Body):
    """Whether the process answers."""

    live: bool


class ServerReadiness(_Body):
    """Whether every model answers."""

    ready: bool


class ModelReadiness(_Body):
    """Whether a model answers."""

    name: str
    ready: bool


class TensorMetadata(_Body):
    """A tensor that a model takes or gives."""

    name: str = Field(examples=["seed"])
    datatype: str = Field(examples=["INT64"])
    shape: list[int] = Field(description="-1 is the batch", examples=[[-1]])


class ModelMetadata(_Body):
    """What a model takes and gives."""

    name: str = Field(examples=["mnist-cgan-v6"])
    versions: list[str] = Field(examples=[["1"]])
    platform: str = Field(examples=["onnx_onnxv1"])
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    properties: dict[str, str] = Field(
        description="operation, digest of the checkpoint, reproducibility, and which inputs can be "
        "left out"
    )


class RepositoryEntry(_Body):
    """A model of the store, served or not."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = Field(description="why it is unavailable")


class _TensorParameters(_Body):
    binary_data_size: int | None = Field(
        default=None, description="bytes behind the JSON, instead of data"
    )


class InferenceInput(_Body):
    """A tensor that is sent."""

    name: str = Field(examples=["seed"])
    shape: list[int] = Field(examples=[[2]])
    datatype: str = Field(examples=["INT64"])
    parameters: _TensorParameters | None = None
    data: list[Any] | None = Field(
        default=None, description="numbers, flat or nested like the shape", examples=[[42, 7]]
    )


class _OutputParameters(_Body):
    binary_data: bool = Field(default=False, description="send it behind the JSON")


class InferenceOutput(_Body):
    """A tensor that is asked for."""

    name: str = Field(examples=["image"])
    parameters: _OutputParameters | None = None


class _InferenceParameters(_Body):
    n: int | None = Field(
        default=None, description="images, where no input tells (generate alone)", examples=[2]
    )
    binary_data_output: bool = Field(
        default=False, description="binary_data of outputs that do not say"
    )


class InferenceRequest(_Body):
    """What /v2's infer reads. With Inference-Header-Content-Length the
    body goes on after this JSON with the binary tensors."""

    id: str | None = Field(default=None, max_length=128, description="comes back in the answer")
    parameters: _InferenceParameters | None = None
    inputs: list[InferenceInput]
    outputs: list[InferenceOutput] | None = Field(
        default=None, description="none = all but those that the model gives on request"
    )


class InferredTensor(_Body):
    """A tensor that is answered."""

    name: str = Field(examples=["image"])
    datatype: str = Field(examples=["UINT8"])
    shape: list[int] = Field(examples=[[2, 28, 28]])
    parameters: _TensorParameters | None = None
    data: list[Any] | None = Field(default=None, description="numbers, flat")


class InferenceResponse(_Body):
    """What /v2's infer answers; binary tensors come behind it."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[InferredTensor]


# Bodies that the routes parse or write themselves, which FastAPI therefore does not collect.
OWN = (
    *(Problem, ImageList, Latents, Pictures, End, Ends),
    *(InferenceError, InferenceRequest, InferenceResponse),
)


def reference(schema: type[BaseModel]) -> dict[str, str]:
    """How the OpenAPI points to one of OWN."""
    assert schema in OWN
    return {"$ref": f"#/components/schemas/{schema.__name__}"}
