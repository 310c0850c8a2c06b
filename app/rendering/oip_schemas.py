"""Bodies of the Open Inference Protocol (/v2); the OpenAPI is made from these too."""

from typing import Any, Literal

from pydantic import Field

from app.rendering.schemas import StrictModel


class InferenceError(StrictModel):
    """An error of the Open Inference Protocol."""

    error: str = Field(description="what is wrong, what is allowed, what to do")


class ServerMetadata(StrictModel):
    """The server."""

    name: str = Field(examples=["genserve"])
    version: str
    extensions: list[str] = Field(examples=[["binary_tensor_data"]])


class Liveness(StrictModel):
    """Whether the process answers."""

    live: bool


class ServerReadiness(StrictModel):
    """Whether every model answers."""

    ready: bool


class ModelReadiness(StrictModel):
    """Whether a model answers."""

    name: str
    ready: bool


class TensorMetadata(StrictModel):
    """A tensor that a model takes or returns."""

    name: str = Field(examples=["seed"])
    datatype: str = Field(examples=["INT64"])
    shape: list[int] = Field(description="-1 is the batch", examples=[[-1]])


class ModelMetadata(StrictModel):
    """What a model takes and returns."""

    name: str = Field(examples=["mnist-cgan-v7"])
    versions: list[str] = Field(examples=[["1"]])
    platform: str = Field(examples=["onnx_onnxv1"])
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    properties: dict[str, str] = Field(
        description="operation, digest of the checkpoint, reproducibility, and which inputs can be "
        "left out"
    )


class RepositoryEntry(StrictModel):
    """A model of the store, served or not."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = Field(description="why it is unavailable")


class _TensorParameters(StrictModel):
    binary_data_size: int | None = Field(
        default=None, description="bytes after the JSON, instead of data"
    )


class InferenceInput(StrictModel):
    """A tensor of a request."""

    name: str = Field(examples=["seed"])
    shape: list[int] = Field(examples=[[2]])
    datatype: str = Field(examples=["INT64"])
    parameters: _TensorParameters | None = None
    data: list[Any] | None = Field(
        default=None, description="numbers, flat or nested like the shape", examples=[[42, 7]]
    )


class _OutputParameters(StrictModel):
    binary_data: bool = Field(default=False, description="send it after the JSON")


class InferenceOutput(StrictModel):
    """A requested tensor."""

    name: str = Field(examples=["image"])
    parameters: _OutputParameters | None = None


class _InferenceParameters(StrictModel):
    n: int | None = Field(
        default=None,
        description="images, where no input has a batch (generate alone)",
        examples=[2],
    )
    binary_data_output: bool = Field(
        default=False, description="binary_data of outputs that do not state it"
    )


class InferenceRequest(StrictModel):
    """What /v2's infer reads. With Inference-Header-Content-Length the
    binary tensors follow this JSON in the body."""

    id: str | None = Field(default=None, max_length=128, description="returned in the response")
    parameters: _InferenceParameters | None = None
    inputs: list[InferenceInput]
    outputs: list[InferenceOutput] | None = Field(
        default=None, description="none = all but those that are returned on request alone"
    )


class InferredTensor(StrictModel):
    """A tensor of a response."""

    name: str = Field(examples=["image"])
    datatype: str = Field(examples=["UINT8"])
    shape: list[int] = Field(examples=[[2, 28, 28]])
    parameters: _TensorParameters | None = None
    data: list[Any] | None = Field(default=None, description="numbers, flat")


class InferenceResponse(StrictModel):
    """What /v2's infer returns; binary tensors follow it."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[InferredTensor]


# As ``schemas.EXTRA_SCHEMAS``.
OIP_EXTRA_SCHEMAS = (InferenceError, InferenceRequest, InferenceResponse)
