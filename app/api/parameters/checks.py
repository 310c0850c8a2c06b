"""Checks of the whole query: unknown and repeated parameters, and error texts."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute

from app.errors import FieldError, InvalidParameterError, shown


async def check_query(request: Request) -> None:
    """Refuse a parameter that the operation does not have, and one that is given twice.

    A dependency of every route; the known names are those of the route's own signature. Async,
    because FastAPI runs a plain function in a thread: that cost more than the check.

    Raises:
        InvalidParameterError: with the nearest known name.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = [field.alias for field in route.dependant.query_params]
    errors: list[FieldError] = []
    given = [name for name, _ in request.query_params.multi_items()]
    for name in dict.fromkeys(given):
        if name not in known:
            detail = unknown_parameter(name, known)
            errors.append({"pointer": f"?{shown(name)[1:-1]}", "detail": detail})
        elif given.count(name) > 1:
            detail = f"{name} is given {given.count(name)} times; once is allowed"
            errors.append({"pointer": f"?{name}", "detail": detail})
    for field in route.dependant.header_params:
        count = len(request.headers.getlist(field.alias))
        if count > 1:
            detail = f"{field.alias} is given {count} times; once is allowed"
            errors.append({"pointer": field.alias, "detail": detail})
    refuse_all(errors)


def unknown_parameter(name: str, known: Sequence[str]) -> str:
    """What is said of a parameter that an operation does not have; it has the ``known`` ones."""
    near = difflib.get_close_matches(name.lower()[:40], known, 1)
    listed = f"known: {', '.join(known)}" if known else "this operation has none"
    hint = f"did you mean {near[0]}?" if near else listed
    return f"unknown parameter {shown(name)}; {hint}"


def refuse_all(errors: list[FieldError]) -> None:
    """Raise one InvalidParameterError for the findings, if there are any."""
    if errors:
        detail = "; ".join(error["detail"] for error in errors[:4])
        raise InvalidParameterError(detail, errors=errors[:16])


def query_errors(found: Iterable[dict[str, Any]]) -> list[FieldError]:
    """FastAPI's findings about the query and the headers as pointers and sentences."""
    errors: list[FieldError] = []
    for error in found:
        name = str(error["loc"][1]) if len(error["loc"]) > 1 else "query"
        what = str(error["msg"]).removeprefix("Value error, ")
        what = re.sub(r"^(Input|String) should", "must", what)
        pointer = name if error["loc"][0] == "header" else f"?{name}"
        errors.append(
            {"pointer": pointer, "detail": f"{name} is {shown(error.get('input'))}; it {what}"}
        )
    return errors
