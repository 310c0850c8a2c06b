"""Checks of all parameters together, and the text of FastAPI's validation errors."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app.errors import FieldError, InvalidParameterError, shown

_SUMMARISED, _LISTED = 4, 16  # errors in the text, and in the list, of one response


async def check_query(request: Request) -> None:
    """Refuse parameters that the operation does not have, and those given twice.

    A dependency of every route; the known names are those the route declares. It is async because
    FastAPI runs a plain function in a thread, which cost more than the check.

    Raises:
        InvalidParameterError: with the nearest known name.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known, headers = _declared(route.dependant)
    errors: list[FieldError] = []
    given = [name for name, _ in request.query_params.multi_items()]
    for name in dict.fromkeys(given):
        if name not in known:
            detail = unknown_parameter(name, known)
            errors.append({"pointer": f"?{shown(name)[1:-1]}", "detail": detail})
        elif given.count(name) > 1:
            detail = f"{name} is given {given.count(name)} times; once is allowed"
            errors.append({"pointer": f"?{name}", "detail": detail})
    for name in headers:
        count = len(request.headers.getlist(name))
        if count > 1:
            detail = f"{name} is given {count} times; once is allowed"
            errors.append({"pointer": name, "detail": detail})
    if errors:
        raise invalid_parameters(errors)


def _declared(dependant: Dependant) -> tuple[list[str], list[str]]:
    """The query parameters and the headers of a route, those of its dependencies included."""
    query = [field.alias for field in dependant.query_params]
    headers = [field.alias for field in dependant.header_params]
    for dependency in dependant.dependencies:
        more_query, more_headers = _declared(dependency)
        query += more_query
        headers += more_headers
    return query, headers


def unknown_parameter(name: str, known: Sequence[str]) -> str:
    """The error text for a parameter ``name`` of an operation that has the ``known`` ones."""
    near = difflib.get_close_matches(name.lower()[:40], known, 1)
    listed = f"known: {', '.join(known)}" if known else "this operation has none"
    hint = f"did you mean {near[0]}?" if near else listed
    return f"unknown parameter {shown(name)}; {hint}"


def invalid_parameters(errors: list[FieldError]) -> InvalidParameterError:
    """One error for all ``errors``; there is at least one."""
    detail = "; ".join(error["detail"] for error in errors[:_SUMMARISED])
    return InvalidParameterError(detail, errors=errors[:_LISTED])


def query_errors(found: Iterable[dict[str, Any]], path: str) -> list[FieldError]:
    """FastAPI's validation errors of query and headers of an operation, as pointers and
    sentences."""
    errors: list[FieldError] = []
    for error in found:
        name = str(error["loc"][1]) if len(error["loc"]) > 1 else "query"
        reason = str(error["msg"]).removeprefix("Value error, ")
        reason = re.sub(r"^(Input|String) should", "must", reason)
        if (path, name, error["type"]) == ("/generate", "n", "less_than_equal"):
            reason += "; /dataset generates any number"
        pointer = name if error["loc"][0] == "header" else f"?{name}"
        errors.append(
            {"pointer": pointer, "detail": f"{name} is {shown(error.get('input'))}; it {reason}"}
        )
    return errors
