"""What FastAPI's OpenAPI lacks: bodies that routes read and write themselves, and what is refused
before a route is asked."""

from typing import Any

from pydantic.json_schema import models_json_schema

from app.api.parameters.checks import unknown_parameter
from app.errors import (
    PROBLEMS,
    RAISES,
    CrossSiteError,
    HeadersTooLargeError,
    InvalidParameterError,
    MalformedRequestError,
    MisdirectedRequestError,
    NotAcceptableError,
    NotReadyError,
    OverloadedError,
    RequestTimeoutError,
    ServiceError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
    UriTooLongError,
)
from app.formats.media_types import HTML, JSON, NPZ, ZIP
from app.http.access import HEALTH, SAFE, needs_key
from app.http.error_response import PROBLEM, is_v2, v2_status
from app.rendering import oip_schemas
from app.rendering.oip_schemas import InferenceError
from app.rendering.options import OFFERS
from app.rendering.schemas import EXTRA_SCHEMAS, Problem, reference

Error = type[ServiceError]

_KEY = "key"
_REQUEST_ID = {
    "description": "the request's own, or one made for it; the log has it",
    "schema": {"type": "string"},
}
_RETRY = {"Retry-After": ("seconds after which to try again", "integer")}
# Headers of errors, by status.
_HEADERS: dict[int, dict[str, tuple[str, str]]] = {
    401: {"WWW-Authenticate": ('Bearer realm="genserve"', "string")},
    415: {
        "Accept-Post": ("types that the operation reads, where it was the type", "string"),
        "Accept-Encoding": ("codings of bodies, where it was the coding", "string"),
    },
    416: {"Content-Range": ("bytes */length", "string")},
    429: _RETRY
    | {
        "RateLimit-Policy": ("your share of the queue, in images", "string"),
        "RateLimit": ("what is left of it, and in how many seconds there is room", "string"),
    },
    503: _RETRY,
}


def complete(spec: dict[str, Any]) -> None:
    """Add to FastAPI's OpenAPI document, in place."""
    _add_own_schemas(spec)
    _tell_absent_from_null(spec)
    _tell_errors(spec)


def _add_own_schemas(spec: dict[str, Any]) -> None:
    _, definitions = models_json_schema(
        [(schema, "validation") for schema in (*EXTRA_SCHEMAS, *oip_schemas.EXTRA_SCHEMAS)],
        ref_template="#/components/schemas/{model}",
    )
    schemas = spec.setdefault("components", {}).setdefault("schemas", {})
    schemas |= definitions["$defs"]


def _tell_absent_from_null(spec: dict[str, Any]) -> None:
    """Take null out of the parameters' schemas.

    FastAPI writes "may be absent" as "may be null", but a query or header that says null is text
    that no parameter takes.
    """
    for item in spec["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                schema = parameter["schema"]
                kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
                if len(kinds) == 1:
                    del schema["anyOf"]
                    parameter["schema"] = kinds[0] | schema


def _of_all(method: str, path: str) -> list[Error]:
    """What may never come to the operation, by the transport, the guard, a stop or a bug, and 422:
    each operation refuses parameters that it does not have."""
    errors = [MalformedRequestError, RequestTimeoutError, UriTooLongError, HeadersTooLargeError]
    errors += [InvalidParameterError, ServiceError, NotReadyError]
    if path not in HEALTH:
        errors += [MisdirectedRequestError, OverloadedError]
        errors += [CrossSiteError] * (method not in SAFE)
    return errors + [UnauthorizedError] * needs_key(method, path)


def _tell_errors(spec: dict[str, Any]) -> None:
    """Every error that an operation can give, with an example, and where a key counts."""
    components = spec["components"]
    components["securitySchemes"] = {
        _KEY: {
            "type": "http",
            "scheme": "bearer",
            "description": "one of the service's keys; not needed where it has none",
        }
    }
    shared: dict[str, Any] = {}
    for path, item in spec["paths"].items():
        for method, operation in item.items():
            v2 = is_v2(path)
            own = {PROBLEMS[slug] for slug in operation.pop(RAISES, ())}
            own |= set(_of_all(method.upper(), path))
            answers = operation["responses"]
            answers.pop("422", None)  # FastAPI's own, whose form no answer has
            for answer in answers.values():
                answer.setdefault("headers", {})["X-Request-ID"] = _REQUEST_ID
            of_status: dict[int, list[Error]] = {}
            for error in PROBLEMS.values():
                if error in own:
                    status = v2_status(error.status) if v2 else error.status
                    of_status.setdefault(status, []).append(error)
            for status, errors in of_status.items():
                examples = {error: _example(error, path, operation) for error in errors}
                name = ".".join((["v2"] if v2 else []) + [error.slug for error in errors])
                if examples != {error: error.example for error in errors}:
                    name += f".{operation['operationId']}"
                shared[name] = _told(status, examples, v2)
                answers[str(status)] = {"$ref": f"#/components/responses/{name}"}
            operation["responses"] = dict(sorted(answers.items()))
            if needs_key(method.upper(), path):
                operation["security"] = [{}, {_KEY: []}]
    components["responses"] = dict(sorted(shared.items()))
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)


def _example(error: Error, path: str, operation: dict[str, Any]) -> str:
    """What the operation says, where that is not as anywhere else."""
    if error is InvalidParameterError:
        parameters = operation.get("parameters", ())
        known = [found["name"] for found in parameters if found["in"] == "query"]
        return unknown_parameter("colour", known)
    if error is NotAcceptableError:
        images = OFFERS if path != "/dataset" else (ZIP, NPZ)
        offers = (JSON, HTML) if path.startswith(("/models", "/problems")) else images
        return f"available types: {', '.join(offers)}; or leave Accept out"
    if error is UnsupportedMediaTypeError:
        body = operation.get("requestBody", {"content": (JSON, "application/octet-stream")})
        reads = ", ".join(body["content"])
        return f"Content-Type is 'text/plain'; this operation reads {reads}"
    return error.example


def _told(status: int, examples: dict[Error, str], v2: bool) -> dict[str, Any]:
    """What the document says of an operation's errors of one status."""
    media, schema = (JSON, InferenceError) if v2 else (PROBLEM, Problem)
    shown = {
        error.slug: {
            "summary": error.title,
            "value": {"error": detail} if v2 else _problem(error, detail),
        }
        for error, detail in examples.items()
    }
    headers = {
        name: {"description": about, "schema": {"type": kind}}
        for name, (about, kind) in _HEADERS.get(status, {}).items()
    }
    return {
        "description": " or ".join(error.title for error in examples),
        "content": {media: {"schema": reference(schema), "examples": shown}},
        "headers": headers | {"X-Request-ID": _REQUEST_ID},
    }


def _problem(error: Error, detail: str) -> dict[str, Any]:
    """One as it may be answered."""
    retry_after_s = 2 if "Retry-After" in _HEADERS.get(error.status, {}) else None
    return error(detail, retry_after_s=retry_after_s).problem("5f1c0a2e9b7d4c38")
