"""Values of a JSON body, checked one by one up to the first fault."""

import base64
import binascii
from typing import Any, NoReturn

from app.errors import (
    InvalidParameterError,
    shown,
)


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
    if not isinstance(rows, list):
        refuse(f"/{key}", "must be a list")
    check_count(len(rows), max_n, f"/{key}", least)
    return rows


def from_base64(text: Any, pointer: str) -> bytes:
    """The bytes that a base64 string stands for: with or without ``data:image/png;base64,`` before
    it, as canvases give it, and in one line or several."""
    if not isinstance(text, str):
        refuse(pointer, "must be a string")
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            refuse(pointer, "a data: address must have ;base64, before its data")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        refuse(pointer, "must be base64")


def check_count(count: int, max_n: int, pointer: str, least: int = 1) -> None:
    """Refuse fewer than ``least`` or more than ``max_n`` items."""
    if not least <= count <= max_n:
        raise InvalidParameterError(
            f"{count} in one request; allowed: {least} to {max_n}",
            errors=[{"pointer": pointer, "detail": f"{least} to {max_n}"}],
        )
