"""What FastAPI's OpenAPI lacks: bodies that routes read and write themselves, and what is refused
before a route is asked."""

from typing import Any

from pydantic.json_schema import models_json_schema

from app.errors import PROBLEMS
from app.guard import HEALTH, SAFE, needs_key
from app.middleware import PROBLEM, is_v2, v2_status
from app.negotiation import JSON
from app.schemas import OWN, InferenceError, Problem, reference

_KEY = "key"
_RETRY = {"Retry-After": ("seconds after which to try again", "integer")}
# Headers of errors, by status.
_HEADERS: dict[str, dict[str, tuple[str, str]]] = {
    "401": {"WWW-Authenticate": ("Bearer", "string")},
    "416": {"Content-Range": ("bytes */length", "string")},
    "429": _RETRY
    | {
        "RateLimit-Policy": ("your share of the queue, in images", "string"),
        "RateLimit": ("what is left of it, and in how many seconds there is room", "string"),
    },
    "503": _RETRY,
}


def complete(spec: dict[str, Any]) -> None:
    """Add to FastAPI's OpenAPI document, in place."""
    _add_own_schemas(spec)
    _tell_absent_from_null(spec)
    _tell_refusals(spec)


def _add_own_schemas(spec: dict[str, Any]) -> None:
    _, definitions = models_json_schema(
        [(schema, "validation") for schema in OWN], ref_template="#/components/schemas/{model}"
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


def _refused_before(method: str, path: str) -> list[int]:
    """Statuses of what never comes to the operation: by the transport, the guard or a bug."""
    statuses = [408, 414, 431, 500]
    if path not in HEALTH:
        statuses += [400, 421, 503]
        statuses += [403] * (method not in SAFE) + [401] * needs_key(method, path)
    return statuses


def _tell_refusals(spec: dict[str, Any]) -> None:
    """Every status that an operation can give, the headers of errors, and where a key counts."""
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
            answers = operation["responses"]
            for status in _refused_before(method.upper(), path):
                if str(status) not in answers:
                    name = f"{'v2' if is_v2(path) else 'problem'}-{status}"
                    shared[name] = _error(status, is_v2(path))
                    answers[str(status)] = {"$ref": f"#/components/responses/{name}"}
            operation["responses"] = {
                status: answer if "$ref" in answer else answer | _headers(status)
                for status, answer in sorted(answers.items())
            }
            if needs_key(method.upper(), path):
                operation["security"] = [{}, {_KEY: []}]
    components["responses"] = dict(sorted(shared.items()))


def _error(status: int, v2: bool) -> dict[str, Any]:
    """What the document says of an error."""
    errors = PROBLEMS.values()
    told = [e.title for e in errors if (v2_status(e.status) if v2 else e.status) == status]
    media, schema = (JSON, InferenceError) if v2 else (PROBLEM, Problem)
    content = {media: {"schema": reference(schema)}}
    return {"description": " or ".join(told), "content": content} | _headers(str(status))


def _headers(status: str) -> dict[str, Any]:
    """The headers of an error, if it has some of its own."""
    headers = {
        name: {"description": about, "schema": {"type": kind}}
        for name, (about, kind) in _HEADERS.get(status, {}).items()
    }
    return {"headers": headers} if headers else {}
