"""JSON of a request's body, refused where two readers could understand it differently."""

import json
from typing import Any, NoReturn

from app.errors import InvalidParameterError, MalformedBodyError, shown


def parse(body: bytes) -> Any:
    """The value of a JSON text in UTF-8 (RFC 8259), with or without the mark that PowerShell and
    .NET put before it (section 8.1).

    Python's parser and pydantic's take the last of two equal names in an object; here that is an
    error, as are NaN and Infinity. Numbers may be too large for a float, and strings may hold lone
    surrogates: the caller has to check.

    Raises:
        MalformedBodyError: not JSON, a name twice in an object, or nested to hundreds of levels.
        InvalidParameterError: an integer of more digits than Python reads (4300).
    """
    try:
        # Decoded here: json.loads would also accept UTF-16, and surrogates in UTF-8.
        return json.loads(
            body.decode("utf-8-sig"),
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique_names,
        )
    except MalformedBodyError:
        raise
    except UnicodeDecodeError as error:
        raise _malformed("it is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise _malformed(str(error)) from error
    except RecursionError as error:
        raise _malformed("it is nested too deeply") from error
    except ValueError as error:  # of int()
        raise InvalidParameterError("a number in the body has too many digits") from error


def _malformed(reason: str) -> MalformedBodyError:
    return MalformedBodyError(f"the body is not JSON: {reason}")


def _refuse_constant(name: str) -> NoReturn:
    raise _malformed(f"{name} is not JSON")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _malformed(f"{shown(name)} stands twice in one object")
            seen.add(name)
    return value
