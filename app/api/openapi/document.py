"""Completes the OpenAPI document that FastAPI writes: schemas of bodies that endpoints read and
write by themselves, every possible error of each operation, and the API key."""

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
    OverShareError,
    RequestTimeoutError,
    ServiceError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
    UnsupportedTransferCodingError,
    UriTooLongError,
)
from app.formats.media_types import HTML, JSON, NPZ, ZIP
from app.http.access import HEALTH, SAFE, needs_key
from app.http.error_response import PROBLEM, is_v2, v2_status
from app.rendering.oip_schemas import OIP_EXTRA_SCHEMAS, InferenceError
from app.rendering.options import OFFERS
from app.rendering.schemas import EXTRA_SCHEMAS, Problem, reference
from app.seeds import MAX_SEED

Error = type[ServiceError]

_KEY = "key"
_REQUEST_ID = {
    "description": "The request's own, or one generated for it. The log has it.",
    "schema": {"type": "string"},
}
_RETRY = {"Retry-After": ("Seconds until a retry makes sense.", "integer")}
# Headers of errors, by status.
_HEADERS: dict[int, dict[str, tuple[str, str]]] = {
    401: {"WWW-Authenticate": ('Bearer realm="genserve"', "string")},
    415: {
        "Accept-Post": ("Media types that the operation reads, if the type was wrong.", "string"),
        "Accept-Encoding": ("Codings that the operation reads, if the coding was wrong.", "string"),
    },
    416: {"Content-Range": ("bytes */length", "string")},
    429: _RETRY
    | {
        "RateLimit-Policy": ("Your share of the queue, in images.", "string"),
        "RateLimit": ("What is left of it, and in how many seconds there is room.", "string"),
    },
    503: _RETRY,
}


def complete(spec: dict[str, Any]) -> None:
    """Complete FastAPI's OpenAPI document, in place."""
    _add_schemas(spec)
    _remove_null(spec)
    _add_errors(spec)
    _add_int64(spec)


def _add_int64(part: Any) -> None:
    """Give each integer that can pass 2^31 - 1 its format: generated clients of languages with
    types take 32 bits otherwise, and overflow."""
    if isinstance(part, list):
        for item in part:
            _add_int64(item)
    elif isinstance(part, dict):
        if part.get("type") == "integer" and part.get("maximum", MAX_SEED) >= 2**31:
            part.setdefault("format", "int64")
        for name, item in part.items():
            if name not in ("example", "examples", "default", "enum", "const"):
                _add_int64(item)


def _add_schemas(spec: dict[str, Any]) -> None:
    """Add the schemas that FastAPI does not collect."""
    _, definitions = models_json_schema(
        [(schema, "validation") for schema in (*EXTRA_SCHEMAS, *OIP_EXTRA_SCHEMAS)],
        ref_template="#/components/schemas/{model}",
    )
    schemas = spec.setdefault("components", {}).setdefault("schemas", {})
    schemas |= definitions["$defs"]


def _remove_null(spec: dict[str, Any]) -> None:
    """Remove null from the schemas of parameters.

    FastAPI writes "may be absent" as "may be null", but "null" in a query or header is a text,
    which no parameter accepts.
    """
    for item in spec["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                schema = parameter["schema"]
                kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
                if len(kinds) == 1:
                    del schema["anyOf"]
                    parameter["schema"] = kinds[0] | schema


def _common_errors(method: str, path: str) -> list[Error]:
    """Errors that any operation can give: of the connection, of access control, of a stop or a bug,
    and for unknown parameters."""
    errors = [MalformedRequestError, RequestTimeoutError, UriTooLongError, HeadersTooLargeError]
    errors += [InvalidParameterError, ServiceError, NotReadyError, UnsupportedTransferCodingError]
    if path not in HEALTH:
        errors += [MisdirectedRequestError, OverloadedError, OverShareError]
        errors += [CrossSiteError] * (method not in SAFE)
    return errors + [UnauthorizedError] * needs_key(method, path)


def _add_errors(spec: dict[str, Any]) -> None:
    """Add every error that each operation can give, with an example, and where a key is needed."""
    components = spec["components"]
    components["securitySchemes"] = {
        _KEY: {
            "type": "http",
            "scheme": "bearer",
            "description": "One of the service's API keys. Not needed if it has none.",
        }
    }
    shared: dict[str, Any] = {}
    for path, item in spec["paths"].items():
        for method, operation in item.items():
            v2 = is_v2(path)
            own = {PROBLEMS[slug] for slug in operation.pop(RAISES, ())}
            own |= set(_common_errors(method.upper(), path))
            responses = operation["responses"]
            responses.pop("422", None)  # FastAPI's own form of errors, which is not used
            for response in responses.values():
                response.setdefault("headers", {})["X-Request-ID"] = _REQUEST_ID
            by_status: dict[int, list[Error]] = {}
            for error in PROBLEMS.values():
                if error in own:
                    status = v2_status(error.status) if v2 else error.status
                    by_status.setdefault(status, []).append(error)
            for status, errors in by_status.items():
                examples = {error: _example(error, path, operation) for error in errors}
                name = ".".join((["v2"] if v2 else []) + [error.slug for error in errors])
                if examples != {error: error.example for error in errors}:
                    name += f".{operation['operationId']}"
                shared[name] = _response(status, examples, v2)
                responses[str(status)] = {"$ref": f"#/components/responses/{name}"}
            operation["responses"] = dict(sorted(responses.items()))
            if needs_key(method.upper(), path):
                operation["security"] = [{}, {_KEY: []}]
    components["responses"] = dict(sorted(shared.items()))
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)


def _example(error: Error, path: str, operation: dict[str, Any]) -> str:
    """An error's detail, as this operation words it."""
    if error is InvalidParameterError:
        parameters = operation.get("parameters", ())
        known = [item["name"] for item in parameters if item["in"] == "query"]
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


def _response(status: int, examples: dict[Error, str], v2: bool) -> dict[str, Any]:
    """The document's response for the errors of one status, which are the keys of ``examples``."""
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
    """An example of the response's body."""
    retry_after_s = 2 if "Retry-After" in _HEADERS.get(error.status, {}) else None
    return error(detail, retry_after_s=retry_after_s).problem("5f1c0a2e9b7d4c38")
