"""Values of a JSON body, checked one by one up to the first fault."""

from typing import Any, NoReturn

import numpy as np

from app.errors import (
    InvalidParameterError,
    shown,
)
from app.formats import compact_json


def refuse(pointer: str, detail: str) -> NoReturn:
    """Raise an InvalidParameterError for the value at ``pointer``."""
    raise InvalidParameterError(
        f"the body does not fit: {pointer}: {detail}",
        errors=[{"pointer": pointer, "detail": detail}],
    )


def only_list(value: Any, key: str, max_n: int, least: int = 1) -> list[Any]:
    """The list of an object ``{key: [...]}``, with ``least`` to ``max_n`` items.

    Checked by hand up to the first fault: a validator that collects all faults would take seconds
    and gigabytes for a body that is full of them.
    """
    if not isinstance(value, dict) or key not in value:
        refuse("/", f"must be an object with a list named {key!r}")
    if len(value) > 1:
        other = next(name for name in value if name != key)
        refuse(f"/{shown(other)[1:-1]}", f"unknown; the object has {key!r} alone")
    rows = value[key]
    if not isinstance(rows, list | np.ndarray):
        refuse(f"/{key}", "must be a list")
    check_count(len(rows), max_n, f"/{key}", least)
    return list(rows)


def from_base64(value: Any, pointer: str) -> bytes:
    """The bytes that a string stands for, as ``compact_json.from_base64``; they may be there
    already."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        refuse(pointer, "must be a string")
    data = compact_json.from_base64(value)
    if data is None:
        refuse(pointer, "must be base64; a data: address must have ;base64, before its data")
    return data


def check_count(count: int, max_n: int, pointer: str, least: int = 1) -> None:
    """Refuse fewer than ``least`` or more than ``max_n`` items."""
    if not least <= count <= max_n:
        raise InvalidParameterError(
            f"{count} in one request; allowed: {least} to {max_n}",
            errors=[{"pointer": pointer, "detail": f"{least} to {max_n}"}],
        )
