"""Every operation of the interface in one table: endpoint, responses, errors, request body."""

from typing import Any, NamedTuple

from fastapi import APIRouter, Response

from app.api.common import Endpoint
from app.api.datasets import dataset
from app.api.generate import generate
from app.api.interpolate import interpolate
from app.api.latents import decode, encode, reconstruct
from app.api.models import get_model, get_model_picture, list_models
from app.api.monitoring import get_status, livez, metrics, readyz
from app.api.openapi.operations import (
    DATASET,
    DATASET_NOT_MODIFIED,
    DATASET_PART,
    ENCODED,
    ENDS,
    FILE,
    IMAGES,
    LATENTS,
    METRICS,
    PAGE,
    PICTURE,
    RANGE,
    REBUILT,
    SAMPLE,
    SAMPLE_NOT_MODIFIED,
    SOURCE,
    UPLOADS,
    VERDICT,
    WALK,
    WALK_NOT_MODIFIED,
    PngResponse,
    Responses,
    TextResponse,
    ZipResponse,
)
from app.api.problems import get_problem, list_problems
from app.api.traverse import traverse
from app.api.verify import verify
from app.errors import (
    OF_BODIES,
    OF_RUNS,
    NoRecipeError,
    NotAcceptableError,
    NotFoundError,
    NotReadyError,
    OverShareError,
    RangeNotSatisfiableError,
    ServiceError,
    UnknownModelError,
    UnreadableImageError,
    WrongModelError,
    raises,
)
from app.rendering.schemas import (
    ModelCard,
    ModelList,
    PosteriorList,
    ProblemKind,
    Readiness,
    Status,
    Verification,
)
from app.settings import Settings

Errors = tuple[type[ServiceError], ...]

_RUN: Errors = (UnknownModelError, NotAcceptableError, WrongModelError, *OF_RUNS)
_RUN_BODY: Errors = (*_RUN, *OF_BODIES)
_SEE: Errors = (*_RUN_BODY, UnreadableImageError)  # pictures in the body
_ENCODE: Errors = (UnknownModelError, WrongModelError, *OF_BODIES, UnreadableImageError, *OF_RUNS)
_VERIFY: Errors = (*OF_BODIES, UnreadableImageError, NoRecipeError, *OF_RUNS)
# Never over its share: all other requests take precedence over a dataset anyway.
_STREAM: Errors = tuple(error for error in _RUN if error is not OverShareError)
_RESUME: Errors = (*_STREAM, RangeNotSatisfiableError)
_PAGE: Errors = (NotAcceptableError,)  # a document as JSON or as an HTML page
_CARD: Errors = (UnknownModelError, *_PAGE)
_PROBLEM: Errors = (NotFoundError, *_PAGE)
_FILE: Errors = (UnknownModelError, NotFoundError)
_HEALTH: Errors = (NotReadyError,)

_PICTURE = "/models/{name}/pictures/{file}"


class Operation(NamedTuple):
    """A row of the table."""

    method: str
    path: str
    id: str  # OpenAPI's operationId
    tag: str
    endpoint: Endpoint
    returns: Any  # a response class, or the type of the JSON that FastAPI writes
    responses: Responses  # what the document says of successful responses
    errors: Errors  # besides those of every operation (``app.api.openapi.document``)
    extra: dict[str, Any] | None = None  # body or headers that the endpoint reads by itself


def _operations(settings: Settings) -> tuple[Operation, ...]:
    row, image, latent, png, file = Operation, "images", "latents", PngResponse, ZipResponse
    sample, path, axes = generate(settings), interpolate(settings), traverse(settings)
    points, images, rebuilt = encode(settings), decode(settings), reconstruct(settings)
    archive, check, picture = dataset(settings), verify(settings), get_model_picture
    posteriors, kind, kinds = PosteriorList, ProblemKind, dict[str, ProblemKind]
    # GET does the same as POST where the query has everything: for <img src>, links and caches.
    get_sample, get_walk = SAMPLE | SAMPLE_NOT_MODIFIED, WALK | WALK_NOT_MODIFIED
    get_file = DATASET | DATASET_NOT_MODIFIED | DATASET_PART
    return (
        row("POST", "/generate", "generate", image, sample, png, SAMPLE, _RUN),
        row("GET", "/generate", "generate_get", image, sample, png, get_sample, _RUN),
        row("POST", "/dataset", "dataset", image, archive, file, DATASET, _STREAM),
        row("GET", "/dataset", "dataset_get", image, archive, file, get_file, _RESUME, RANGE),
        row("POST", "/encode", "encode", latent, points, posteriors, ENCODED, _ENCODE, UPLOADS),
        row("POST", "/decode", "decode", latent, images, png, IMAGES, _RUN_BODY, LATENTS),
        row("POST", "/reconstruct", "reconstruct", latent, rebuilt, png, REBUILT, _SEE, UPLOADS),
        row("POST", "/interpolate", "interpolate", latent, path, png, WALK, _SEE, ENDS),
        row("GET", "/interpolate", "interpolate_get", latent, path, png, get_walk, _RUN),
        row("POST", "/traverse", "traverse", latent, axes, png, WALK, _SEE, SOURCE),
        row("GET", "/traverse", "traverse_get", latent, axes, png, get_walk, _RUN),
        row("POST", "/verify", "verify", image, check, Verification, VERDICT, _VERIFY, FILE),
        row("GET", "/models", "list_models", "models", list_models, ModelList, PAGE, _PAGE),
        row("GET", "/models/{name}", "get_model", "models", get_model, ModelCard, PAGE, _CARD),
        row("GET", _PICTURE, "get_model_picture", "models", picture, png, PICTURE, _FILE),
        row("GET", "/livez", "livez", "operation", livez, dict[str, str], {}, _HEALTH),
        row("GET", "/readyz", "readyz", "operation", readyz, Readiness, {}, _HEALTH),
        row("GET", "/status", "get_status", "operation", get_status, Status, {}, ()),
        row("GET", "/metrics", "metrics", "operation", metrics, TextResponse, METRICS, ()),
        row("GET", "/problems", "list_problems", "errors", list_problems, kinds, PAGE, _PAGE),
        row("GET", "/problems/{slug}", "get_problem", "errors", get_problem, kind, PAGE, _PROBLEM),
    )


def build_router(settings: Settings) -> APIRouter:
    """A router with every operation; ``settings`` gives the limits in the OpenAPI document."""
    router = APIRouter()
    for operation in _operations(settings):
        returns = operation.returns
        is_file = isinstance(returns, type) and issubclass(returns, Response)
        router.add_api_route(
            operation.path,
            operation.endpoint,
            methods=[operation.method],
            operation_id=operation.id,
            tags=[operation.tag],
            responses=operation.responses,
            openapi_extra=raises(*operation.errors) | (operation.extra or {}),
            **{"response_class" if is_file else "response_model": returns},
        )
    return router
