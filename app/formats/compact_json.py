"""JSON whose bulk is numbers and base64, as arrays and bytes: small enough to be looked through on
an event loop, and to be sent from one process to another.

A JSON text of some megabytes takes seconds to parse where it is full of small values, and Python
cannot be interrupted meanwhile. So large ones are parsed elsewhere (``packed``), and what comes
back is ``unpacked``. Small ones are parsed where they are (``is_quick``), to the same values.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from app.errors import InvalidParameterError, MalformedBodyError
from app.formats import strict_json

# A text of at most so many bytes, lists and objects takes about 4 ms on one slow core: parsing each
# byte takes 50 ns at most, making an array of a list 2 us.
_QUICK_BYTES, _QUICK_BRACKETS = 2**16, 1000
_MAX_SKELETON = 2**16  # bytes of what is no number and no base64
_BASE64 = 256  # characters from which a text is taken for base64 if it is any; no name is so long
_MAX_TEXT = 1024  # characters that are kept of one that is not
_MAX_DEPTH = 16  # lists and objects in each other; no request has half of them


def is_quick(text: bytes) -> bool:
    """Whether ``parse`` is quick enough for an event loop, whatever is in the text."""
    few = len(text) <= _QUICK_BYTES
    return few and text.count(b"[") + text.count(b"{") <= _QUICK_BRACKETS


def parse(text: bytes) -> Any:
    """The value of a JSON text, in which a list of numbers alone is an array.

    An array is int64 if all its numbers are whole and fit, else float64, to which whole numbers
    over 2^53 are rounded; lists of equal lists are arrays of more dimensions. A list is left as it
    is if it is empty, or if one of its numbers fits neither.

    Raises:
        MalformedBodyError, InvalidParameterError: as ``strict_json.parse``; or it is nested too
            deeply.
    """
    return _compacted(strict_json.parse(text), 0)


def from_base64(text: str) -> bytes | None:
    """What base64 stands for, with or without ``data:image/png;base64,`` before it, and in one line
    or several; None = it is no base64."""
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def packed(text: bytes) -> tuple[str, list[bytes]]:
    """``parse``, in a form for ``unpacked``: a small JSON text, and what is large in it. Base64 in
    strings is decoded.

    Raises:
        MalformedBodyError: as ``parse``.
        InvalidParameterError: as ``parse``; or besides numbers and base64 it has more than no
            request needs.
    """
    parts: list[bytes] = []
    skeleton = json.dumps(_packed(parse(text), parts), separators=(",", ":"))
    if len(skeleton) > _MAX_SKELETON:
        raise InvalidParameterError(
            f"the body has {len(skeleton)} bytes besides base64 and lists of numbers alone; at "
            f"most {_MAX_SKELETON} are read"
        )
    return skeleton, parts


def unpacked(skeleton: str, parts: Sequence[bytes | memoryview]) -> Any:
    """What ``packed`` took apart: as ``parse``, but for strings of base64, which are bytes."""
    return _unpacked(json.loads(skeleton), parts)


def _compacted(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise MalformedBodyError(
            f"the body is nested too deeply: over {_MAX_DEPTH} lists and objects in each other"
        )
    if isinstance(value, dict):
        return {name: _compacted(member, depth + 1) for name, member in value.items()}
    if not isinstance(value, list) or not value:
        return value
    kinds = set(map(type, value))
    if kinds <= {int, float}:
        try:
            return np.array(value, np.int64 if kinds == {int} else np.float64)
        except OverflowError:
            return value
    if kinds.isdisjoint((list, dict)):
        return value
    items = [_compacted(item, depth + 1) for item in value]
    first = items[0]
    if isinstance(first, np.ndarray) and all(
        isinstance(item, np.ndarray) and item.shape == first.shape for item in items
    ):
        return np.stack(items)
    return items


def _packed(value: Any, parts: list[bytes]) -> Any:
    """A list stands for itself, and all other values but scalars for an object of one member."""
    if isinstance(value, np.ndarray):
        parts.append(value.tobytes())
        return {"array": [len(parts) - 1, value.dtype.str, value.shape]}
    if isinstance(value, dict):
        return {"object": {name: _packed(member, parts) for name, member in value.items()}}
    if isinstance(value, list):
        return [_packed(item, parts) for item in value]
    if isinstance(value, str) and len(value) >= _BASE64:
        if (data := from_base64(value)) is not None:
            parts.append(data)
            return {"bytes": len(parts) - 1}
        if len(value) > _MAX_TEXT:  # refused where it is read, which knows its place
            return value[:_MAX_TEXT] + "…"
    return value


def _unpacked(value: Any, parts: Sequence[bytes | memoryview]) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, parts) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    if tag == "object":
        return {name: _unpacked(member, parts) for name, member in content.items()}
    if tag == "array":
        place, dtype, shape = content
        return np.frombuffer(parts[place], dtype).reshape(shape)
    return bytes(parts[content])
