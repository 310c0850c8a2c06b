"""Request and response bodies of the Open Inference Protocol: JSON, then tensors as raw bytes.

https://github.com/kserve/open-inference-protocol (REST) with the binary tensor data extension: the
first bytes of a body are JSON; the tensors that have a ``binary_data_size`` follow in the order of
the JSON, little-endian and row-major.

Knows neither HTTP nor the service. What a body says of shapes, sizes and datatypes is checked
against the model's signature before anything of that size is allocated; the first fault ends it.
"""

import json
import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NoReturn, TypeGuard

import numpy as np

from app.errors import MalformedBodyError, shown
from app.oip.signature import BYTES, DTYPES, Array, Input, Output, Signature

VERSION = "1"  # the only version of every model: another checkpoint has another name
_CONTENT_TYPE = "content_type"
_LENGTH = struct.Struct("<I")  # before each element of a BYTES tensor
_NUMBERS = 2048  # in one part of a response's JSON
MAX_ID = 128  # characters of a request's own identifier


class ParsedRequest(NamedTuple):
    """A parsed and checked request."""

    id: str | None
    rows: int
    inputs: dict[str, Array]  # each (rows, *row)
    outputs: list[tuple[Output, bool]]  # in the order requested; True = binary, False = JSON


def _refuse(detail: str) -> NoReturn:
    raise MalformedBodyError(detail)


def _object(value: Any, what: str, known: Sequence[str]) -> dict[str, Any]:
    """An object's members that are not null, all of them ``known``."""
    if not isinstance(value, dict):
        _refuse(f"{what} must be an object")
    for name in value:
        if name not in known:
            _refuse(f"{what} has {shown(name)}, which is unknown; known: {', '.join(known)}")
    return {name: member for name, member in value.items() if member is not None}


def _parameters(part: dict[str, Any], what: str, known: Sequence[str]) -> dict[str, Any]:
    """The parameters of a request or tensor. MLServer's clients write how they would decode it;
    here a tensor is what its datatype says, as for ``np``."""
    parameters = _object(part.get("parameters", {}), what, (*known, _CONTENT_TYPE))
    content = parameters.get(_CONTENT_TYPE, "np")
    if not _is_one_of(content, ("np",)):
        _refuse(f"content_type in the {what} is {shown(content)}; tensors here are np")
    return parameters


def _same(head: dict[str, Any], model: tuple[str, ...]) -> None:
    """Check the model that KServe's client names in the body beside the address."""
    name, version = head.get("model_name", model[0]), head.get("model_version", VERSION)
    if not _is_one_of(name, model):
        _refuse(f"model_name is {shown(name)}; the address names {model[0]}")
    if not _is_one_of(version, ("", VERSION)):
        _refuse(f"model_version is {shown(version)}; served is {VERSION}")


def _is_one_of(value: Any, texts: Sequence[str]) -> TypeGuard[str]:
    """Of any value: an array, which a list of numbers is here, cannot be compared with a text."""
    return isinstance(value, str) and value in texts


def _list(value: Any, what: str) -> list[Any]:
    if isinstance(value, np.ndarray):  # of numbers, where objects belong: the first is refused
        return list(value[:1])
    if not isinstance(value, list):
        _refuse(f"{what} must be a list")
    return value


def _flag(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        _refuse(f"{what} must be true or false")
    return value


def _id(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_ID:
        _refuse(f"id must be a string of at most {MAX_ID} characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise MalformedBodyError("id has a lone surrogate, which is no character") from error
    return value


def json_end(body: bytes, json_size: int | None) -> int:
    """Where the JSON part of an infer request's body ends.

    Args:
        body: The whole body.
        json_size: Bytes of the JSON part; None = the whole body is JSON.

    Raises:
        MalformedBodyError: it is longer than the body.
    """
    if json_size is not None and json_size > len(body):
        _refuse(f"Inference-Header-Content-Length is {json_size}; the body has {len(body)} bytes")
    return len(body) if json_size is None else json_size


def parse_request(
    parsed: Any,
    body: bytes,
    start: int,
    signature: Signature,
    max_rows: int,
    model: tuple[str, ...] = ("",),
) -> ParsedRequest:
    """Parse the body of an infer request.

    Args:
        parsed: Its JSON part, by ``compact_json``.
        body: The whole body.
        start: Where its binary part begins, as ``json_end`` says.
        signature: The model's inputs and outputs.
        max_rows: Most rows that a tensor may have.
        model: Names that the body may give the model: as the address has it, and its own.

    Raises:
        MalformedBodyError: the body does not fit; the message says where and what is allowed.
    """
    head = _object(
        parsed,
        "the request",
        ("id", "model_name", "model_version", "parameters", "inputs", "outputs"),
    )
    _same(head, model)
    known = ["binary_data_output"]
    if not any(spec.required for spec in signature.inputs):
        known.append("n")
    parameters = _parameters(head, "parameters", known)
    binary = _flag(parameters.get("binary_data_output", False), "binary_data_output")
    inputs = _inputs(_list(head.get("inputs"), "inputs"), body, start, signature, max_rows)
    return ParsedRequest(
        _id(head.get("id")),
        _rows(inputs, parameters.get("n"), max_rows),
        inputs,
        _outputs(_list(head.get("outputs", []), "outputs"), signature, binary),
    )


def _rows(inputs: dict[str, Array], n: Any, max_rows: int) -> int:
    counts = {name: len(array) for name, array in inputs.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        _refuse(f"the inputs must have equally many rows; {listed}")
    if n is None:
        return next(iter(counts.values()), 1)
    if type(n) is not int or not 1 <= n <= max_rows:
        _refuse(f"n must be a whole number, 1 to {max_rows}")
    if counts and n not in counts.values():
        _refuse(f"n is {n}, but the inputs have {next(iter(counts.values()))} rows; leave it out")
    return n


def _inputs(
    given: list[Any], body: bytes, start: int, signature: Signature, max_rows: int
) -> dict[str, Array]:
    specs = {spec.name: spec for spec in signature.inputs}
    arrays: dict[str, Array] = {}
    for item in given:
        tensor = _object(item, "an input", ("name", "shape", "datatype", "parameters", "data"))
        name = _name(tensor, "input", specs, arrays)
        arrays[name], start = _tensor(tensor, specs[name], body, start, max_rows)
    for spec in signature.inputs:
        if spec.required and spec.name not in arrays:
            _refuse(f"there is no input {spec.name}; this model needs it")
    if start != len(body):
        _refuse(f"{len(body) - start} bytes are left after the last tensor")
    return arrays


def _outputs(
    given: list[Any], signature: Signature, binary_by_default: bool
) -> list[tuple[Output, bool]]:
    specs = {spec.name: spec for spec in signature.outputs}
    requested: dict[str, bool] = {}
    for item in given:
        wanted = _object(item, "an output", ("name", "parameters"))
        name = _name(wanted, "output", specs, requested)
        parameters = _parameters(wanted, f"parameters of output {name}", ("binary_data",))
        binary = parameters.get("binary_data", binary_by_default)
        requested[name] = _flag(binary, f"binary_data of output {name}")
        if specs[name].datatype == BYTES and not requested[name]:
            _refuse(f"output {name} is bytes, which JSON cannot hold; set its binary_data to true")
    if not requested:
        requested = {name: binary_by_default for name, spec in specs.items() if spec.by_default}
    return [(specs[name], binary) for name, binary in requested.items()]


def _name(tensor: dict[str, Any], what: str, known: dict[str, Any], had: dict[str, Any]) -> str:
    name = tensor.get("name")
    listed = ", ".join(known)
    if not isinstance(name, str):
        _refuse(f"an {what} has no name; known: {listed}")
    if name not in known:
        _refuse(f"unknown {what} {shown(name)}; known: {listed}")
    if name in had:
        _refuse(f"{what} {name} is given twice")
    return name


def _tensor(
    tensor: dict[str, Any], spec: Input, body: bytes, start: int, max_rows: int
) -> tuple[Array, int]:
    """One input (n, *row), and the offset at which its bytes end."""
    what = f"input {spec.name}"
    datatype = tensor.get("datatype")
    if not _is_one_of(datatype, spec.datatypes):
        _refuse(f"{what}: the datatype must be {' or '.join(spec.datatypes)}")
    dtype = np.dtype(DTYPES[datatype])
    shape = _shape(tensor.get("shape"), spec, max_rows)
    count = math.prod(shape)
    parameters = _parameters(tensor, f"parameters of {what}", ("binary_data_size",))
    size = parameters.get("binary_data_size")
    if (size is None) == ("data" not in tensor):
        _refuse(f"{what}: give either data or parameters.binary_data_size, not both")
    if size is None:
        array = _numbers(tensor["data"], spec, shape, dtype.kind).astype(dtype)
    elif type(size) is not int or size != count * dtype.itemsize:
        _refuse(f"{what}: binary_data_size must be {count * dtype.itemsize}, by its shape")
    elif start + size > len(body):
        _refuse(f"{what}: {size} bytes are announced, {len(body) - start} are present")
    else:
        array = np.frombuffer(body, dtype, count, start)
        start += size
        # In this form a NaN fails the check too.
        if not bool(((array >= spec.low) & (array <= spec.high)).all()):
            _refuse(f"{what}: every number must be {spec.low} to {spec.high}")
    return array.reshape(shape[0], *spec.row), start


def _shape(given: Any, spec: Input, max_rows: int) -> list[int]:
    shape = given.tolist() if isinstance(given, np.ndarray) else given
    sides = ", ".join(["n", *map(str, spec.row)])
    wanted = f"input {spec.name}: the shape must be [{sides}], n from 1 to {max_rows}"
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= 8
        or not all(type(side) is int for side in shape)
    ):
        _refuse(wanted)
    if tuple(shape[1:]) not in (spec.row, (*spec.row, 1)) or not 1 <= shape[0] <= max_rows:
        _refuse(f"{wanted}; it is {shown(shape)}")
    return shape


def _numbers(data: Any, spec: Input, shape: list[int], kind: str) -> Array:
    """Numbers of a JSON tensor, row-major, from a flat list or one nested like the shape."""
    what = f"input {spec.name}"
    if not isinstance(data, np.ndarray):  # ``compact_json`` has made no array of it
        _irregular(_list(data, f"{what}: data"), spec, kind)
    array: Array = data
    if array.ndim > 1 and array.shape != tuple(shape):
        _refuse(f"{what}: the lists in data do not have the shape {shape}")
    if array.size != math.prod(shape):
        _refuse(f"{what}: data must have {math.prod(shape)} numbers; it has {array.size}")
    if kind != "f" and array.dtype.kind != "i":
        _refuse(f"{what}: data must be whole numbers alone")
    # Checked before it is brought into the tensor's type, which would turn some into infinity.
    if not bool(((array >= spec.low) & (array <= spec.high)).all()):
        _refuse(f"{what}: every number must be {spec.low} to {spec.high}")
    return array


def _irregular(data: list[Any], spec: Input, kind: str) -> NoReturn:
    """Say what is wrong with a list that is no array."""
    what = f"input {spec.name}"
    if not data:
        _refuse(f"{what}: data must not be empty")
    if any(isinstance(part, list | np.ndarray) for part in data):
        _refuse(f"{what}: the lists in data do not have the tensor's shape, or hold other values")
    if all(type(number) in (int, float) for number in data):
        _refuse(f"{what}: every number must be {spec.low} to {spec.high}")
    _refuse(f"{what}: data must be {'numbers' if kind == 'f' else 'whole numbers'} alone")


def response_parts(
    model: str,
    version: str,
    request_id: str | None,
    tensors: Sequence[tuple[Output, bool, Array | list[bytes]]],
) -> tuple[Iterator[bytes], list[bytes]]:
    """The body of an infer response: its JSON in parts, each computed when it is asked for, and the
    tensors that follow it as bytes.

    Args:
        model, version: Which model ran.
        request_id: The request's own identifier.
        tensors: For each output: its spec, whether to encode it as binary, and its value (n, *row).
            A BYTES output is a list and must be binary.
    """
    raw = []
    outputs: list[tuple[dict[str, Any], Array | None]] = []
    for spec, binary, value in tensors:
        described: dict[str, Any] = {
            "name": spec.name,
            "datatype": spec.datatype,
            "shape": [len(value), *spec.row],
        }
        if isinstance(value, list):
            raw.append(b"".join(p for item in value for p in (_LENGTH.pack(len(item)), item)))
        elif binary:
            raw.append(value.astype(DTYPES[spec.datatype], copy=False).tobytes())
        if binary:
            described["parameters"] = {"binary_data_size": len(raw[-1])}
        outputs.append((described, None if binary or isinstance(value, list) else value))
    head: dict[str, Any] = {"model_name": model, "model_version": version}
    if request_id is not None:
        head["id"] = request_id
    return _json_parts(head, outputs), raw


def _json_parts(
    head: dict[str, Any], outputs: Sequence[tuple[dict[str, Any], Array | None]]
) -> Iterator[bytes]:
    """An object with ``outputs`` as its last member, and in each output its numbers as ``data``."""
    before = _json(head)[:-1] + b',"outputs":['
    for described, numbers in outputs:
        yield before + _json(described)[:-1]
        if numbers is not None:
            flat, between = numbers.ravel(), b""
            yield b',"data":['
            for start in range(0, len(flat), _NUMBERS):
                yield between + _json(flat[start : start + _NUMBERS].tolist())[1:-1]
                between = b","
            yield b"]"
        yield b"}"
        before = b","
    yield b"]}"


def _json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
