"""The Open Inference Protocol, version 2, over the same service: for clients of model servers.

https://github.com/kserve/open-inference-protocol, with Triton's extensions for binary tensors and
for the index of the repository (read alone: nothing is loaded or unloaded over HTTP).

A model of the protocol is one operation of a checkpoint: ``NAME`` generates, ``NAME.encode`` and
``NAME.decode`` are a VAE's other two. So the metadata of each names exactly the tensors that it
takes and gives, which a request parameter that chooses the operation could not: the protocol tells
tensors by model.
"""

import difflib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Header, Path, Request, Response
from pydantic import Field

from app import __version__, seeds
from app.api.bodies.latents import MAX_LATENT
from app.api.bodies.raw import CODINGS, content_coding, inflate, media_type, read_body
from app.api.parameters.checks import check_query
from app.api.parameters.declared import PLAIN, Timeout
from app.batching.ticket import Timing
from app.core.service import Caller, Order, Service
from app.engines.rows import Sample
from app.engines.store import StoredModel
from app.errors import (
    OF_BODIES,
    OF_RUNS,
    InvalidParameterError,
    NotReadyError,
    UnknownModelError,
    raises,
    shown,
)
from app.formats import strict_json
from app.formats.media_types import JSON
from app.formats.pixels import Image
from app.http.disconnect import client_disconnected
from app.http.error_response import V2
from app.oip import tensors
from app.oip.tensors import BYTES, Array, Inference, Input, Output, Signature
from app.rendering.lineage import AS_PNG, Origin, origin_of, plain_origin
from app.rendering.responses import pngs, server_timing
from app.rendering.schemas import (
    InferenceRequest,
    InferenceResponse,
    Liveness,
    ModelMetadata,
    ModelReadiness,
    RepositoryEntry,
    ServerMetadata,
    ServerReadiness,
    reference,
)
from app.settings import Settings
from training.networks.configs import Operation

VERSION = "1"  # the only one of every model: another checkpoint has another name
BINARY = "application/octet-stream"
JSON_SIZE_HEADER = "Inference-Header-Content-Length"
EXTENSIONS = ("binary_tensor_data", "model_repository")
PLATFORMS = {"onnx": "onnx_onnxv1", "torch": "pytorch_safetensors"}
_LARGE = 2**16  # bytes of a body from which on parsing holds up others: it goes to a thread
_READERS = CapacityLimiter(2)  # few at a time: parsed JSON can take twenty times its bytes

JsonSize = Annotated[
    Annotated[int, Field(ge=0), PLAIN] | None,
    Header(
        alias=JSON_SIZE_HEADER,
        description="bytes of the body that are JSON, where binary tensors follow; none = all",
    ),
]


class Served(NamedTuple):
    """A model of the protocol."""

    name: str
    model: StoredModel
    operation: Operation

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        network = self.model.network
        channels, *sides = network.image_shape
        pixels = (*sides, channels) if channels > 1 else tuple(sides)
        latent = (network.latent_dim,)
        images = (Output("image", "UINT8", pixels), Output("png", BYTES, (), unasked=False))
        if self.operation == "encode":
            image = Input("image", ("UINT8",), pixels, 0, 255)
            posterior = (Output("mu", "FP32", latent), Output("logvar", "FP32", latent))
            return Signature((image,), posterior)
        if self.operation == "decode":
            most = MAX_LATENT
            return Signature((Input("z", ("FP32",), latent, -most, most),), images)
        seed = Input("seed", ("INT64", "UINT64"), (), 0, seeds.MAX_SEED, required=False)
        made_by = (Output("seed", "INT64", ()),)
        if not network.num_classes:
            return Signature((seed,), (*images, *made_by))
        label = Input("label", ("INT64",), (), 0, network.num_classes - 1, required=False)
        return Signature((seed, label), (*images, *made_by, Output("label", "INT64", ())))


def _all_served(service: Service) -> dict[str, Served]:
    """Every model of the protocol by its name; a checkpoint that is called like another's
    operation goes first."""
    models = service.models.values()
    operations = [
        Served(f"{model.name}.{operation}", model, operation)
        for model in models
        for operation in model.operations
        if operation != "generate"
    ]
    checkpoints = [Served(model.name, model, "generate") for model in models]
    served = {one.name: one for one in (*operations, *checkpoints)}
    return {name: served[name] for name in sorted(served)}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _unversioned(request: Request, model: Annotated[str, Path()]) -> Served:
    """The model that the path names.

    Raises:
        UnknownModelError
    """
    served = _all_served(_service(request))
    if model in served:
        return served[model]
    near = difflib.get_close_matches(model[:64], served, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UnknownModelError(f"unknown model {shown(model)}; available: {', '.join(served)}{hint}")


async def _versioned(
    request: Request, model: Annotated[str, Path()], version: Annotated[str, Path()]
) -> Served:
    """The model and version that the path names.

    Raises:
        UnknownModelError
    """
    served = await _unversioned(request, model)
    if version != VERSION:
        raise UnknownModelError(
            f"unknown version {shown(version)} of {served.name}; it has version {VERSION} alone"
        )
    return served


async def _body(request: Request, limit: int) -> tuple[bytes, str | None]:
    """The request's body and its Content-Encoding. A Content-Type is not asked for, because
    tritonclient sends none; what a browser's form would send is refused."""
    coding = content_coding(request, CODINGS)
    if "content-type" in request.headers:
        media_type(request, (JSON, BINARY), CODINGS)
    return await read_body(request, limit), coding


async def _inference(
    request: Request, served: Served, json_size: int | None, settings: Settings
) -> Inference:
    """The request's body, read and checked.

    Raises:
        ServiceError: 400, 413 or 415, by what is wrong.
    """
    signature, most = served.signature, settings.max_n
    limit = min(settings.max_body_bytes, signature.most_bytes(most))
    body, coding = await _body(request, limit)

    def read() -> Inference:
        whole = inflate(body, coding, limit) if coding else body
        return tensors.read(whole, json_size, signature, most)

    if coding or len(body) > _LARGE:
        return await to_thread.run_sync(read, limiter=_READERS)
    return read()


def _images(
    images: Sequence[Image], asked: set[str], origin: Callable[[], Origin]
) -> dict[str, Array | list[bytes]]:
    """The outputs that show images; the files are those that the other interface gives."""
    values: dict[str, Array | list[bytes]] = {}
    if "image" in asked:
        values["image"] = np.stack(images)
    if "png" in asked:
        values["png"] = list(pngs(images, origin(), AS_PNG))
    return values


async def _run(
    service: Service, served: Served, asked: Inference, caller: Caller
) -> tuple[dict[str, Array | list[bytes]], Timing, float]:
    """The outputs by name, where the time went, and when the model was done."""
    model, given = served.model, asked.inputs
    wanted = {output.name for output, _ in asked.outputs}
    if served.operation == "encode":
        posteriors, timing = await service.encode(model, list(given["image"]), caller)
        done = time.perf_counter()
        mu, logvar = (np.stack(part) for part in zip(*posteriors, strict=True))
        return {"mu": mu, "logvar": logvar}, timing, done
    if served.operation == "decode":
        images, timing = await service.decode(model, list(given["z"]), caller)
        done = time.perf_counter()
        return _images(images, wanted, partial(plain_origin, model, len(images))), timing, done
    numbers: Sequence[int]
    if "seed" in given:
        numbers = given["seed"].tolist()
    else:
        first = seeds.random_seed(asked.rows)
        numbers = range(first, first + asked.rows)
    order = Order(model, None, numbers, caller)
    if "label" in given:
        samples = list(map(Sample, numbers, given["label"].tolist()))
    else:
        samples = service.samples(order)
    images, timing = await service.sample(model, samples, caller)
    done = time.perf_counter()
    origin = partial(origin_of, order, samples, AS_PNG, True, False, service.identity)
    values = _images(images, wanted, origin)
    values["seed"] = np.array(numbers)
    if model.network.num_classes:
        values["label"] = np.array([sample.label for sample in samples])
    return values, timing, done


def _metadata(service: Service, served: Served) -> ModelMetadata:
    model, signature = served.model, served.signature
    optional = ", ".join(spec.name for spec in signature.inputs if not spec.required)
    return ModelMetadata.model_validate(
        {
            "name": served.name,
            "versions": [VERSION],
            "platform": PLATFORMS[model.backend.engine],
            "inputs": [spec.metadata() for spec in signature.inputs],
            "outputs": [spec.metadata() for spec in signature.outputs],
            "properties": {
                "operation": served.operation,
                "digest": model.description.digest,
                "reproducibility": service.engine.reproducibility[model.name],
                "optional_inputs": optional,
            },
        }
    )


_INFER_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": reference(InferenceRequest),
                "example": {
                    "id": "my-1",
                    "inputs": [
                        {"name": "seed", "shape": [2], "datatype": "INT64", "data": [42, 7]},
                        {"name": "label", "shape": [2], "datatype": "INT64", "data": [7, 3]},
                    ],
                    "outputs": [{"name": "image"}],
                },
            },
            BINARY: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_INFERRED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The outputs, in JSON; those asked for in binary behind it",
        "content": {
            JSON: {"schema": reference(InferenceResponse)},
            BINARY: {"schema": {"type": "string", "format": "binary"}},
        },
        "headers": {
            JSON_SIZE_HEADER: {
                "description": "bytes of the body that are JSON, where binary tensors follow",
                "schema": {"type": "integer"},
            },
            "Cache-Control": {"description": "no-store", "schema": {"type": "string"}},
            "Server-Timing": {
                "description": "queue, batch, compute and encode; milliseconds",
                "schema": {"type": "string"},
            },
        },
    }
}


def build_oip_router(settings: Settings) -> APIRouter:
    """Every operation of the protocol."""
    router = APIRouter(
        prefix=V2,
        tags=["open inference protocol"],
        dependencies=[Depends(check_query)],
    )

    @router.get("/", include_in_schema=False)  # as the protocol's own OpenAPI writes it
    @router.get("", operation_id="oip_server_metadata")
    async def server_metadata() -> ServerMetadata:
        """The server, and the extensions that it knows."""
        return ServerMetadata(name="genserve", version=__version__, extensions=list(EXTENSIONS))

    @router.get("/health/live", operation_id="oip_server_live", openapi_extra=raises(NotReadyError))
    async def live(request: Request) -> Liveness:
        """As /livez: the process runs and answers."""
        _service(request).check_alive()
        return Liveness(live=True)

    @router.get(
        "/health/ready", operation_id="oip_server_ready", openapi_extra=raises(NotReadyError)
    )
    async def ready(request: Request) -> ServerReadiness:
        """As /readyz: every model answers a canary sent through the real queue."""
        await _service(request).check_ready()
        return ServerReadiness(ready=True)

    @router.post(
        "/repository/index", operation_id="oip_repository_index", openapi_extra=raises(*OF_BODIES)
    )
    async def index(request: Request) -> list[RepositoryEntry]:
        """Every model, and the files of the store that are not served. The body is empty, or JSON:
        ready = true leaves out what cannot be used."""
        body, coding = await _body(request, 1024)
        if coding:
            body = inflate(body, coding, 1024)
        asked = strict_json.parse(body) if body else {}
        if not isinstance(asked, dict) or not all(
            name == "ready" and isinstance(value, bool) for name, value in asked.items()
        ):
            raise InvalidParameterError('the body must be empty, {} or {"ready": true}')
        service = _service(request)
        failing = await service.not_ready()
        entries = [
            _entry(s.name, failing.get(s.model.name) or failing.get("service") or "")
            for s in _all_served(service).values()
        ]
        entries += [
            _entry(file.removesuffix(".safetensors"), reason)
            for file, reason in service.refused.items()
        ]
        return [e for e in entries if e.state == "READY" or not asked.get("ready")]

    for path, lookup, suffix in (
        ("/models/{model}", _unversioned, ""),
        ("/models/{model}/versions/{version}", _versioned, "_version"),
    ):
        _add_model(router, settings, path, Depends(lookup), suffix)
    return router


def _entry(name: str, reason: str) -> RepositoryEntry:
    return RepositoryEntry(
        name=name, version=VERSION, state="UNAVAILABLE" if reason else "READY", reason=reason
    )


def _add_model(router: APIRouter, settings: Settings, path: str, found: Any, suffix: str) -> None:
    """The three operations on a model, under one of its two paths."""

    @router.get(
        path, operation_id=f"oip_model_metadata{suffix}", openapi_extra=raises(UnknownModelError)
    )
    async def metadata(request: Request, served: Annotated[Served, found]) -> ModelMetadata:
        """The tensors that a model takes and gives."""
        return _metadata(_service(request), served)

    @router.get(
        f"{path}/ready",
        operation_id=f"oip_model_ready{suffix}",
        openapi_extra=raises(UnknownModelError, NotReadyError),
    )
    async def ready(request: Request, served: Annotated[Served, found]) -> ModelReadiness:
        """Whether a model answers a canary sent through the real queue."""
        await _service(request).check_ready(served.model.name)
        return ModelReadiness(name=served.name, ready=True)

    @router.post(
        f"{path}/infer",
        operation_id=f"oip_infer{suffix}",
        responses=_INFERRED,
        openapi_extra=raises(UnknownModelError, *OF_BODIES, *OF_RUNS) | _INFER_BODY,
        response_class=Response,
    )
    async def infer(
        request: Request,
        served: Annotated[Served, found],
        json_size: JsonSize = None,
        timeout_ms: Timeout = None,
    ) -> Response:
        """Run a model: tensors in, tensors out, each in JSON or in binary behind it.

        The rows share forward passes with all other requests, of /generate and others.
        """
        service = _service(request)
        with service.accepted(timeout_ms, client_disconnected(request.receive)) as caller:
            asked = await _inference(request, served, json_size, settings)
            values, timing, done = await _run(service, served, asked, caller)
            body, size = tensors.write(
                served.name,
                VERSION,
                asked.id,
                [(output, binary, values[output.name]) for output, binary in asked.outputs],
            )
        headers = {
            "Cache-Control": "no-store",
            "Server-Timing": server_timing(timing, time.perf_counter() - done),
        }
        if size is None:
            return Response(body, media_type=JSON, headers=headers)
        return Response(body, media_type=BINARY, headers=headers | {JSON_SIZE_HEADER: str(size)})
