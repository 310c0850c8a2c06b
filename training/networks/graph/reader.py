"""Reads an ONNX graph that ``graphs.check_graph`` has accepted: nodes, constants, inputs, outputs.

Only what this project's portable graphs contain. Field numbers are those of ``onnx.proto``.
"""

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.networks.graph.onnx_file import FieldValue, fields

_TYPES: dict[int, type[np.generic]] = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    5: np.int16,
    6: np.int32,
    7: np.int64,
}
Attribute = int | float | str | tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One operator's call."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class ParsedGraph:
    """A graph's nodes in order, and its values by name."""

    nodes: tuple[Node, ...]
    constants: dict[str, NDArray[Any]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def parse_graph(model: bytes) -> ParsedGraph:
    """The graph of an ONNX model.

    Raises:
        ValueError: it is not one, or has a tensor or attribute of another kind.
    """
    graph = next(_bytes(value) for number, value in fields(memoryview(model)) if number == 7)
    nodes: list[Node] = []
    constants: dict[str, NDArray[Any]] = {}
    ends: dict[int, list[str]] = {11: [], 12: []}
    for number, value in fields(graph):
        if number == 1:
            nodes.append(_node(_bytes(value)))
        elif number == 5:
            name, array = _tensor(_bytes(value))
            constants[name] = array
        elif number in ends:
            ends[number] += [_text(name) for key, name in fields(_bytes(value)) if key == 1]
    return ParsedGraph(tuple(nodes), constants, tuple(ends[11]), tuple(ends[12]))


def _node(message: memoryview) -> Node:
    texts: dict[int, list[str]] = {1: [], 2: [], 4: []}
    attributes: dict[str, Attribute] = {}
    for number, value in fields(message):
        if number in texts:
            texts[number].append(_text(value))
        elif number == 5:
            name, attribute = _attribute(_bytes(value))
            attributes[name] = attribute
    return Node(texts[4][0], tuple(texts[1]), tuple(texts[2]), attributes)


def _attribute(message: memoryview) -> tuple[str, Attribute]:
    name, found, whole = "", None, []
    for number, value in fields(message):
        if number == 1:
            name = _text(value)
        elif number == 2:
            found = struct.unpack("<f", _bytes(value))[0]
        elif number == 3:
            found = _signed(value)
        elif number == 4:
            found = _text(value)
        elif number == 8:
            whole += _numbers(value)
    if found is None and not whole:
        raise ValueError(f"attribute {name[:40]!r} is neither a number, a text nor numbers")
    return name, tuple(whole) if found is None else found


def _tensor(message: memoryview) -> tuple[str, NDArray[Any]]:
    name, kind, shape, raw = "", 0, [], b""
    for number, value in fields(message):
        if number == 1:
            shape += _numbers(value)
        elif number == 2:
            kind = _signed(value)
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = bytes(_bytes(value))
    if kind not in _TYPES:
        raise ValueError(f"tensor {name[:40]!r} has the type {kind}; accepted: {sorted(_TYPES)}")
    dtype = np.dtype(_TYPES[kind]).newbyteorder("<")
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"tensor {name[:40]!r} has {len(raw)} bytes for the shape {shape}")
    return name, np.frombuffer(raw, dtype).astype(_TYPES[kind]).reshape(shape)


def _numbers(value: FieldValue) -> list[int]:
    """Of a repeated field: one, or several packed."""
    if isinstance(value, int):
        return [_signed(value)]
    found, number, shift = [], 0, 0
    for byte in value:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(_signed(number))
            number, shift = 0, 0
    return found


def _signed(value: FieldValue) -> int:
    if not isinstance(value, int):
        raise ValueError("a number is not one")
    return value - 2**64 if value >= 2**63 else value


def _bytes(value: FieldValue) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a message is a number")
    return value


def _text(value: FieldValue) -> str:
    return bytes(_bytes(value)).decode()
