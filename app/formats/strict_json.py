"""JSON as RFC 8259 defines it, from a stranger: nothing that two readers could take differently."""

import json
from typing import Any, NoReturn

from app.errors import InvalidParameterError, MalformedBodyError, shown


class _NotJsonError(ValueError):
    """What Python's parser would let pass."""


def _constant(name: str) -> NoReturn:
    raise _NotJsonError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _NotJsonError(f"{shown(name)} stands twice in one object")
            seen.add(name)
    return found


def parse(body: bytes) -> Any:
    """The value that the bytes stand for.

    Numbers may be too large for any float, and strings may have lone surrogates: whoever uses them
    has to check.

    Raises:
        MalformedBodyError: not JSON in UTF-8; a name twice in an object, NaN, Infinity, or nested
            to hundreds of levels.
        InvalidParameterError: a number has thousands of digits, which take long to read.
    """
    try:
        # Decoded here: json.loads would also take UTF-16 and surrogates in UTF-8.
        return json.loads(body.decode(), parse_constant=_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            reason = f"{error.msg} at line {error.lineno}, column {error.colno}"
        elif isinstance(error, UnicodeDecodeError):
            reason = "it is not UTF-8"
        elif isinstance(error, _NotJsonError):
            reason = str(error)
        elif isinstance(error, RecursionError):
            reason = "it is nested too deeply"
        else:  # all that is left of ValueError
            detail = "a number in the body has too many digits"
            raise InvalidParameterError(detail) from error
        raise MalformedBodyError(f"the body is not JSON: {reason}") from error
