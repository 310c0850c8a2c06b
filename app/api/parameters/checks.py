"""Checks of all parameters together, and the text of FastAPI's validation errors."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from app.errors import FieldError, InvalidParameterError, shown

_SUMMARISED, _LISTED = 4, 16  # errors in the text, and in the list, of one response


def check_names(given: Sequence[str], known: Sequence[str], headers: Sequence[str]) -> None:
    """Refuse parameters that the operation does not have, and those given twice.

    Args:
        given: Names in the query, in order.
        known: Those that the operation has.
        headers: Names of the given headers that are its parameters.

    Raises:
        InvalidParameterError: with the nearest known name.
    """
    errors: list[FieldError] = []
    for name, count in Counter(given).items():
        if len(errors) == _LISTED:  # a client can send thousands
            break
        if name not in known:
            detail = unknown_parameter(name, known)
            errors.append({"pointer": f"?{shown(name)[1:-1]}", "detail": detail})
        elif count > 1:
            detail = f"{name} is given {count} times; once is allowed"
            errors.append({"pointer": f"?{name}", "detail": detail})
    for name, count in Counter(headers).items():
        if count > 1:
            detail = f"{name} is given {count} times; once is allowed"
            errors.append({"pointer": name, "detail": detail})
    if errors:
        raise invalid_parameters(errors)


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
