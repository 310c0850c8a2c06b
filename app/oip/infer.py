"""Inference by the Open Inference Protocol: a request's tensors through a model, and back."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
from fastapi import Header, Request, Response
from pydantic import Field

from app import seeds
from app.api.bodies.raw import CODINGS, content_coding, inflate, media_type, read_body
from app.api.common import service_of
from app.api.parameters.declared import PLAIN
from app.batching.ticket import Timing
from app.core.pieces import in_thread, joined
from app.core.requests import GenerateRequest, RequestContext
from app.core.service import Service
from app.engines.rows import Sample
from app.formats.encoding import PictureEncoding
from app.formats.media_types import JSON, PNG
from app.formats.pixels import Image
from app.formats.provenance import GENERATED, PictureMetadata
from app.http.disconnect import client_disconnected
from app.oip.models import ProtocolModel
from app.oip.signature import Array
from app.oip.tensors import (
    VERSION,
    ParsedRequest,
    json_end,
    parse_request,
    response_parts,
)
from app.rendering.lineage import image_recipes
from app.rendering.oip_schemas import InferenceRequest, InferenceResponse
from app.rendering.options import AS_PNG
from app.rendering.responses import server_timing
from app.rendering.schemas import reference
from app.settings import Settings

BINARY = "application/octet-stream"
JSON_SIZE_HEADER = "Inference-Header-Content-Length"

JsonSize = Annotated[
    Annotated[int, Field(ge=0), PLAIN] | None,
    Header(
        alias=JSON_SIZE_HEADER,
        description="bytes of the body that are JSON, where binary tensors follow; none = all",
    ),
]

# What the OpenAPI document says of the body and the response, which the endpoint handles itself.
INFER_BODY = {
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
INFER_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The outputs in JSON, followed by those requested as binary",
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

Values = dict[str, Array | list[bytes]]  # by output; (n, *row), or n byte strings


class _Result(NamedTuple):
    """What a model returned."""

    values: Values
    timing: Timing
    finished_at: float  # when the model was done, by time.perf_counter


async def read_any_body(request: Request, limit: int) -> tuple[bytes, str | None]:
    """The request's body and its Content-Encoding.

    tritonclient sends no Content-Type, so none is required; one that a browser's form would send is
    refused.
    """
    coding = content_coding(request, CODINGS)
    if "content-type" in request.headers:
        media_type(request, (JSON, BINARY), CODINGS)
    return await read_body(request, limit), coding


async def infer_response(
    request: Request,
    model: ProtocolModel,
    json_size: int | None,
    timeout_ms: int | None,
    settings: Settings,
) -> Response:
    """Run a model on the tensors of a request's body."""
    service = service_of(request)
    with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
        wanted = await _read(request, model, json_size, settings, context)
        result = await _run(service, model, wanted, context)
        outputs = [
            (output, binary, result.values[output.name]) for output, binary in wanted.outputs
        ]
        parts, raw = response_parts(model.name, VERSION, wanted.id, outputs)
        head = await joined(parts, context, service.batcher.clock)
    headers = {
        "Cache-Control": "no-store",
        "Server-Timing": server_timing(result.timing, time.perf_counter() - result.finished_at),
    }
    if not raw:
        return Response(head, media_type=JSON, headers=headers)
    headers[JSON_SIZE_HEADER] = str(len(head))
    return Response(b"".join((head, *raw)), media_type=BINARY, headers=headers)


async def _read(
    request: Request,
    model: ProtocolModel,
    json_size: int | None,
    settings: Settings,
    context: RequestContext,
) -> ParsedRequest:
    """Read and check the request's body.

    Raises:
        ServiceError: 400, 413 or 415, depending on what is wrong.
    """
    signature, max_rows = model.signature, settings.max_n
    limit = min(settings.max_body_bytes, signature.max_body_bytes(max_rows))
    body, coding = await read_any_body(request, limit)
    names = (str(request.path_params["model"]), model.name)

    if coding:
        body = await in_thread(inflate, body, coding, limit)
    end = json_end(body, json_size)
    parsed = await service_of(request).pictures.parse_json(body[:end], context)
    return parse_request(parsed, body, end, signature, max_rows, names)


async def _run(
    service: Service, served: ProtocolModel, wanted: ParsedRequest, context: RequestContext
) -> _Result:
    """The outputs of a request, all of the model's operation, requested or not."""
    model, inputs = served.model, wanted.inputs
    names = {output.name for output, _ in wanted.outputs}
    labels = inputs["label"].tolist() if "label" in inputs else None
    if served.operation == "encode":
        posteriors, timing = await service.encode(model, list(inputs["image"]), labels, context)
        finished_at = time.perf_counter()
        values: Values = {"mu": np.stack([mu for mu, _ in posteriors])}
        logvars = [logvar for _, logvar in posteriors if logvar is not None]
        if logvars:
            values["logvar"] = np.stack(logvars)
        return _Result(values, timing, finished_at)
    if served.operation == "decode":
        images, timing = await service.decode(model, list(inputs["z"]), labels, context)
        finished_at = time.perf_counter()
        marks = [PictureMetadata(GENERATED)] * len(images)
        values = await _image_outputs(service, images, names, lambda: marks, context)
        return _Result(values, timing, finished_at)
    numbers: Sequence[int]
    if "seed" in inputs:
        numbers = inputs["seed"].tolist()
    else:
        first = seeds.random_seed(wanted.rows)
        numbers = range(first, first + wanted.rows)
    to_generate = GenerateRequest(model, None, numbers, context)
    samples = list(map(Sample, numbers, labels)) if labels else to_generate.samples()
    images, timing = await service.sample(model, samples, context)
    finished_at = time.perf_counter()
    recipes = partial(image_recipes, to_generate, samples, AS_PNG)
    values = await _image_outputs(service, images, names, recipes, context)
    values["seed"] = np.array(numbers)
    if model.network.num_classes:
        values["label"] = np.array([sample.label for sample in samples])
    return _Result(values, timing, finished_at)


async def _image_outputs(
    service: Service,
    images: Sequence[Image],
    names: set[str],
    metadata: Callable[[], Sequence[PictureMetadata]],
    context: RequestContext,
) -> Values:
    """The outputs ``image`` and ``png``, if requested; a PNG is byte for byte that of /generate."""
    values: Values = {}
    if "image" in names:
        values["image"] = np.stack(images)
    if "png" in names:
        encoding = PictureEncoding(PNG, images, tuple(own.png() for own in metadata()))
        values["png"] = await service.pictures.encode(encoding, context)
    return values
