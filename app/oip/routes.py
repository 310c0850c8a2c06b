"""Routes of the Open Inference Protocol, version 2, for clients of model servers.

https://github.com/kserve/open-inference-protocol with Triton's extensions for binary tensors and
for the repository index. The index is read-only: nothing is loaded or unloaded over HTTP.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from app import __version__
from app.api.bodies.raw import inflate
from app.api.common import service_of
from app.api.parameters.declared import TimeoutMs
from app.errors import (
    OF_BODIES,
    OF_RUNS,
    InvalidParameterError,
    NotReadyError,
    UnknownModelError,
    raises,
)
from app.formats import strict_json
from app.http.error_response import V2
from app.oip.infer import INFER_BODY, INFER_RESPONSES, JsonSize, infer_response, read_any_body
from app.oip.models import (
    ProtocolModel,
    model_and_version_of_path,
    model_of_path,
    protocol_models,
)
from app.oip.tensors import VERSION
from app.rendering.oip_schemas import (
    Liveness,
    ModelMetadata,
    ModelReadiness,
    RepositoryEntry,
    ServerMetadata,
    ServerReadiness,
)
from app.settings import Settings

EXTENSIONS = ("binary_tensor_data", "model_repository")
_INDEX_BODY_BYTES = 1024  # at most, of a request for the repository index


def build_oip_router(settings: Settings) -> APIRouter:
    """Every operation of the protocol."""
    router = APIRouter(prefix=V2, tags=["open inference protocol"])
    _add_server(router)
    _add_models(router, settings, "/models/{model}", Depends(model_of_path), "")
    _add_models(
        router,
        settings,
        "/models/{model}/versions/{version}",
        Depends(model_and_version_of_path),
        "_version",
    )
    return router


def _add_server(router: APIRouter) -> None:
    """The operations on the server as a whole."""

    @router.get("/", include_in_schema=False)  # as the protocol's own OpenAPI document writes it
    @router.get("", operation_id="oip_server_metadata")
    async def server_metadata() -> ServerMetadata:
        """The server and its extensions."""
        return ServerMetadata(name="genserve", version=__version__, extensions=list(EXTENSIONS))

    @router.get("/health/live", operation_id="oip_server_live", openapi_extra=raises(NotReadyError))
    async def live(request: Request) -> Liveness:
        """Same as /livez: the process runs and responds."""
        service_of(request).health.check_alive()
        return Liveness(live=True)

    @router.get(
        "/health/ready", operation_id="oip_server_ready", openapi_extra=raises(NotReadyError)
    )
    async def ready(request: Request) -> ServerReadiness:
        """Same as /readyz: every model responds to a canary sent through the real queue."""
        await service_of(request).health.check_ready()
        return ServerReadiness(ready=True)

    @router.post(
        "/repository/index", operation_id="oip_repository_index", openapi_extra=raises(*OF_BODIES)
    )
    async def index(request: Request) -> list[RepositoryEntry]:
        """Every model, and the files of the store that are not served.

        The body is empty or JSON; `{"ready": true}` leaves out what cannot be used.
        """
        body, coding = await read_any_body(request, _INDEX_BODY_BYTES)
        if coding:
            body = inflate(body, coding, _INDEX_BODY_BYTES)
        options = strict_json.parse(body) if body else {}
        if not isinstance(options, dict) or not all(
            name == "ready" and isinstance(value, bool) for name, value in options.items()
        ):
            raise InvalidParameterError('the body must be empty, {} or {"ready": true}')
        service = service_of(request)
        failing = await service.health.failing_models()
        entries = [
            _entry(one.name, failing.get(one.model.name) or failing.get("service") or "")
            for one in protocol_models(service).values()
        ]
        entries += [
            _entry(file.removesuffix(".safetensors"), reason)
            for file, reason in service.refused.items()
        ]
        return [entry for entry in entries if entry.state == "READY" or not options.get("ready")]


def _entry(name: str, reason: str) -> RepositoryEntry:
    """A line of the index; an empty ``reason`` = ready."""
    return RepositoryEntry(
        name=name, version=VERSION, state="UNAVAILABLE" if reason else "READY", reason=reason
    )


def _add_models(router: APIRouter, settings: Settings, path: str, lookup: Any, suffix: str) -> None:
    """The operations on one model, under one of its two paths.

    Args:
        router: Gets the routes.
        settings: For the limits of a request.
        path: With the parameters that ``lookup`` reads.
        lookup: Dependency that returns the ``ProtocolModel``.
        suffix: Of the operation ids.
    """

    @router.get(
        path, operation_id=f"oip_model_metadata{suffix}", openapi_extra=raises(UnknownModelError)
    )
    async def metadata(request: Request, served: Annotated[ProtocolModel, lookup]) -> ModelMetadata:
        """The tensors that a model takes and returns."""
        return served.metadata(service_of(request))

    @router.get(
        f"{path}/ready",
        operation_id=f"oip_model_ready{suffix}",
        openapi_extra=raises(UnknownModelError, NotReadyError),
    )
    async def ready(request: Request, served: Annotated[ProtocolModel, lookup]) -> ModelReadiness:
        """Whether a model responds to a canary sent through the real queue."""
        await service_of(request).health.check_ready(served.model.name)
        return ModelReadiness(name=served.name, ready=True)

    @router.post(
        f"{path}/infer",
        operation_id=f"oip_infer{suffix}",
        responses=INFER_RESPONSES,
        openapi_extra=raises(UnknownModelError, *OF_BODIES, *OF_RUNS) | INFER_BODY,
        response_class=Response,
    )
    async def infer(
        request: Request,
        served: Annotated[ProtocolModel, lookup],
        json_size: JsonSize = None,
        timeout_ms: TimeoutMs = None,
    ) -> Response:
        """Run a model. Tensors come and go as JSON, or as binary after the JSON.

        Rows share forward passes with all other requests, those of /generate included.
        """
        return await infer_response(request, served, json_size, timeout_ms, settings)
