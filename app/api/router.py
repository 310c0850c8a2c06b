"""The interface as a table: every operation, what it answers and which errors it can give."""

from typing import Any, NamedTuple

from fastapi import APIRouter, Depends, Response

from app.api.common import Endpoint
from app.api.datasets import dataset
from app.api.generate import generate
from app.api.interpolate import interpolate
from app.api.latents import decode, encode, reconstruct
from app.api.models import get_model, get_model_picture, list_models
from app.api.monitoring import get_status, livez, metrics, readyz
from app.api.openapi.operations import (
    DATASET,
    DATASET_KNOWN,
    DATASET_REST,
    DRAWN,
    ENCODED,
    END,
    ENDS,
    FILE,
    GENERATED,
    IMAGES,
    LATENTS,
    NOT_MODIFIED,
    PAGE,
    PICTURES,
    PROOF,
    RANGE,
    REBUILT,
    WALK_KNOWN,
    WALKED,
    PngResponse,
    Responses,
    ZipResponse,
)
from app.api.parameters.checks import check_query
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

_ASKED: Errors = (UnknownModelError, NotAcceptableError, WrongModelError, *OF_RUNS)
_SENT: Errors = (*_ASKED, *OF_BODIES)
_SEEN: Errors = (*_SENT, UnreadableImageError)  # with pictures in the body
_ENCODES: Errors = (UnknownModelError, WrongModelError, *OF_BODIES, UnreadableImageError, *OF_RUNS)
_VERIFIES: Errors = (*OF_BODIES, UnreadableImageError, NoRecipeError, *OF_RUNS)
# A dataset; never over its share, for all others go first anyway.
_STREAMS: Errors = tuple(error for error in _ASKED if error is not OverShareError)
_RESUMES: Errors = (*_STREAMS, RangeNotSatisfiableError)
_DOCUMENT: Errors = (NotAcceptableError,)  # a document, as JSON or as a page
_CARD: Errors = (UnknownModelError, *_DOCUMENT)
_PROBLEM: Errors = (NotFoundError, *_DOCUMENT)
_DRAWN: Errors = (UnknownModelError, NotFoundError)
_HEALTH: Errors = (NotReadyError,)

_PICTURE = "/models/{name}/pictures/{file}"


class Row(NamedTuple):
    """An operation of the interface."""

    method: str
    path: str
    id: str  # OpenAPI's operationId
    tag: str
    endpoint: Endpoint
    gives: Any  # a class of answers, or the type of the JSON that FastAPI writes
    answers: Responses
    errors: Errors  # besides what every operation refuses (``app.api.openapi``)
    extra: dict[str, Any] | None = None  # body or headers that the endpoint reads by itself


def _table(settings: Settings) -> tuple[Row, ...]:
    generated, path, axes = generate(settings), interpolate(settings), traverse(settings)
    code, images, again = encode(settings), decode(settings), reconstruct(settings)
    archive, proof, drawn = dataset(settings), verify(settings), get_model_picture
    png, file, points, kind = PngResponse, ZipResponse, PosteriorList, ProblemKind
    kinds = dict[str, ProblemKind]
    # GET is the same call as POST where the query says all: for <img src>, links and caches.
    found, walked = GENERATED | NOT_MODIFIED, WALKED | WALK_KNOWN
    rest = DATASET | DATASET_KNOWN | DATASET_REST
    return (
        Row("POST", "/generate", "generate", "images", generated, png, GENERATED, _ASKED),
        Row("GET", "/generate", "generate_get", "images", generated, png, found, _ASKED),
        Row("POST", "/dataset", "dataset", "images", archive, file, DATASET, _STREAMS),
        Row("GET", "/dataset", "dataset_get", "images", archive, file, rest, _RESUMES, RANGE),
        Row("POST", "/encode", "encode", "latents", code, points, ENCODED, _ENCODES, PICTURES),
        Row("POST", "/decode", "decode", "latents", images, png, IMAGES, _SENT, LATENTS),
        Row("POST", "/reconstruct", "reconstruct", "latents", again, png, REBUILT, _SEEN, PICTURES),
        Row("POST", "/interpolate", "interpolate", "latents", path, png, WALKED, _SEEN, ENDS),
        Row("GET", "/interpolate", "interpolate_get", "latents", path, png, walked, _ASKED),
        Row("POST", "/traverse", "traverse", "latents", axes, png, WALKED, _SEEN, END),
        Row("GET", "/traverse", "traverse_get", "latents", axes, png, walked, _ASKED),
        Row("POST", "/verify", "verify", "images", proof, Verification, PROOF, _VERIFIES, FILE),
        Row("GET", "/models", "list_models", "models", list_models, ModelList, PAGE, _DOCUMENT),
        Row("GET", "/models/{name}", "get_model", "models", get_model, ModelCard, PAGE, _CARD),
        Row("GET", _PICTURE, "get_model_picture", "models", drawn, png, DRAWN, _DRAWN),
        Row("GET", "/livez", "livez", "operation", livez, dict[str, str], {}, _HEALTH),
        Row("GET", "/readyz", "readyz", "operation", readyz, Readiness, {}, _HEALTH),
        Row("GET", "/status", "get_status", "operation", get_status, Status, {}, ()),
        Row("GET", "/metrics", "metrics", "operation", metrics, Response, {}, ()),
        Row("GET", "/problems", "list_problems", "errors", list_problems, kinds, PAGE, _DOCUMENT),
        Row("GET", "/problems/{slug}", "get_problem", "errors", get_problem, kind, PAGE, _PROBLEM),
    )


def build_router(settings: Settings) -> APIRouter:
    """Every operation of the interface; ``settings`` gives the limits that the OpenAPI states."""
    router = APIRouter(dependencies=[Depends(check_query)])
    for row in _table(settings):
        of_files = isinstance(row.gives, type) and issubclass(row.gives, Response)
        kind = {"response_class": row.gives} if of_files else {"response_model": row.gives}
        router.add_api_route(
            row.path,
            row.endpoint,
            methods=[row.method],
            operation_id=row.id,
            tags=[row.tag],
            responses=row.answers,
            openapi_extra=raises(*row.errors) | (row.extra or {}),
            **kind,
        )
    return router
