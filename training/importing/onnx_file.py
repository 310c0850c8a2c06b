"""An ONNX file from anywhere to one that a checkpoint may hold: one graph of listed operators,
whole and without descriptions."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
from onnx import TensorProto, helper, numpy_helper

from training.importing.errors import GeneratorError
from training.networks.files import MAX_FILE_BYTES
from training.networks.graph.onnx_file import (
    IMPORTED_OPERATORS,
    MAX_IMPORTED_NODES,
    OPSETS,
    check_graph,
    fields,
)

OPSET = 20  # that older graphs are converted to
TOO_MANY = f"it has more than {MAX_IMPORTED_NODES} nodes; no more are served"

# Types of numbers that are cast to float32 or int64 at a graph's ends.
_FLOATS = (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_WHOLE = (
    *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.UINT8),
    *(TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
)
# The service returns images of these (app.engines.imported_backend).
_IMAGES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8)
# Messages of onnx.proto that hold nodes somewhere: field number -> what the field is.
_HOLDERS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {6: "graph", 11: "graph"},
}

# What to do about operators that are met and not allowed.
_ADVICE = {
    **dict.fromkeys(
        ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli"),
        "it draws noise inside: make the noise an input of the graph, so that it belongs to the "
        "image's seed",
    ),
    "Multinomial": "it draws a class inside: make the one-hot code an input (categorical)",
    "Dropout": "dropout is left on: export in eval mode (model.eval())",
    **dict.fromkeys(
        ("Loop", "If", "Scan"),
        "control flow cannot be served, for nobody could tell how long it takes: unroll the loop "
        "before you export",
    ),
    **dict.fromkeys(
        ("NonZero", "Compress", "Unique", "NonMaxSuppression"),
        "the size of its result depends on values, so rows cannot share a batch",
    ),
    **dict.fromkeys(
        ("LSTM", "GRU", "RNN"),
        "recurrent layers are not allowed; unroll them before you export",
    ),
}


def read_onnx(path: Path) -> Any:
    """An ONNX file as a model that ``finish`` takes; weights in files beside it are read in.

    Raises:
        GeneratorError: it is not an ONNX file, has too many nodes, or cannot be brought to an
            allowed operator set.
    """
    if not path.is_file():
        raise GeneratorError(f"{path} {'is no file' if path.exists() else 'does not exist'}")
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise GeneratorError(f"{path} has {size} bytes; at most {MAX_FILE_BYTES} are served")
    try:
        # Before any message is built of it: onnx takes a kilobyte and many microseconds a node.
        _count_nodes("model", memoryview(path.read_bytes()), [0])
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except GeneratorError as error:
        raise GeneratorError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise GeneratorError(f"{path}: a file of its weights is missing: {error}") from error
    except Exception as error:  # protobuf and the checker raise classes of their own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GeneratorError(f"{path} is not a whole ONNX file: {reason[:200]}") from error
    return at_allowed_opset(model, str(path))


def _count_nodes(kind: str, message: memoryview, seen: list[int], depth: int = 0) -> None:
    """Refuse an encoded model with too many nodes, those of functions and subgraphs included."""
    seen[0] += kind == "node"
    if seen[0] > MAX_IMPORTED_NODES or depth > 100:  # protobuf's own limit
        raise GeneratorError(TOO_MANY)
    for number, value in fields(message):
        inner = _HOLDERS[kind].get(number)
        if inner and isinstance(value, memoryview):
            _count_nodes(inner, value, seen, depth + 1)


def _check_inlined(model: Any, name: str) -> None:
    """Refuse functions that call each other so often that too many nodes come of them."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}

    @cache
    def count(key: tuple[str, str, str]) -> int:
        return of(functions[key].node)

    def of(nodes: Any) -> int:
        keys = [(node.domain, node.op_type, node.overload) for node in nodes]
        return sum(count(key) if key in functions else 1 for key in keys)

    try:
        if of(model.graph.node) > MAX_IMPORTED_NODES:
            raise GeneratorError(f"{name}: {TOO_MANY}")
    except RecursionError:
        raise GeneratorError(f"{name}: its functions call each other in a circle") from None


def at_allowed_opset(model: Any, name: str) -> Any:
    """The model with its functions inlined, in an operator set that is allowed, its inputs float32
    or int64, and its outputs of a type that is served."""
    if model.functions:
        _check_inlined(model, name)
        model = onnx.inliner.inline_local_functions(model)
    standard = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    used = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if used:
        raise GeneratorError(
            f"{name} has operators of {', '.join(sorted(used))}; only the standard ones are "
            "served: export it with torch.onnx.export(..., dynamo=True), without custom "
            "operators"
        )
    version = standard[0] if standard else 1
    if version not in OPSETS:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except Exception as error:  # the converter raises RuntimeError and others
            raise GeneratorError(
                f"{name} is of operator set {version}, and converting it to {OPSET} failed: export "
                f"it with opset_version={OPSET}"
            ) from error
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", version if version in OPSETS else OPSET))
    for node in model.graph.node:
        node.domain = ""
    _cast_ends(model.graph, name)
    return model


def _cast_ends(graph: Any, name: str) -> None:
    """Cast inputs and outputs of other types."""
    weights = {tensor.name for tensor in graph.initializer}
    for end in graph.input:
        kind = end.type.tensor_type.elem_type
        if end.name in weights or kind in (TensorProto.FLOAT, TensorProto.INT64):
            continue
        if kind not in (*_FLOATS, *_WHOLE):
            raise GeneratorError(
                f"{name}: input {end.name} is of type {_type_name(kind)}; noise and pictures are "
                "floats, a label is an int64 index or a one-hot row of floats"
            )
        inner = f"genserve.cast.{end.name}"
        for node in graph.node:
            node.input[:] = [inner if used == end.name else used for used in node.input]
        graph.node.insert(0, helper.make_node("Cast", [end.name], [inner], to=kind))
        end.type.tensor_type.elem_type = TensorProto.FLOAT if kind in _FLOATS else TensorProto.INT64
    for end in graph.output:
        kind = end.type.tensor_type.elem_type
        if kind in _IMAGES:
            continue
        if kind not in (*_FLOATS, *_WHOLE, TensorProto.INT64, TensorProto.BOOL):
            raise GeneratorError(
                f"{name}: output {end.name} is of type {_type_name(kind)}, not an image of numbers"
            )
        inner = f"genserve.cast.{end.name}"
        for node in graph.node:
            node.input[:] = [inner if used == end.name else used for used in node.input]
            node.output[:] = [inner if made == end.name else made for made in node.output]
        graph.node.append(helper.make_node("Cast", [inner], [end.name], to=TensorProto.FLOAT))
        end.type.tensor_type.elem_type = TensorProto.FLOAT


def _type_name(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind)) if kind in TensorProto.DataType.values() else "?"


def finish(model: Any, name: str) -> bytes:
    """The bytes of a model, without descriptions and paths of the machine that exported it.

    Raises:
        GeneratorError: it has operators that are not allowed, or is too large.
    """
    _check_operators(model, name)
    graph = model.graph
    del model.metadata_props[:], model.functions[:], graph.metadata_props[:]
    model.ClearField("doc_string")
    model.ClearField("domain")
    graph.ClearField("doc_string")
    del graph.quantization_annotation[:]
    for node in graph.node:
        node.ClearField("doc_string")
        node.ClearField("overload")
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
            if attribute.HasField("t"):
                _clear(attribute.t)
    for tensor in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        _clear(tensor)
    try:
        data: bytes = model.SerializeToString(deterministic=True)
        check_graph(data, imported=True)
    except Exception as error:
        raise GeneratorError(f"{name}: {error}") from error
    return data


def _clear(tensor: Any) -> None:
    if isinstance(tensor, onnx.TensorProto) and not tensor.external_data:
        tensor.ClearField("data_location")  # what was read in from a file of its own
    tensor.ClearField("doc_string")
    del tensor.metadata_props[:]


def _check_operators(model: Any, name: str) -> None:
    for node in model.graph.node:
        if node.op_type in IMPORTED_OPERATORS:
            continue
        advice = _ADVICE.get(
            node.op_type,
            "the operators that may be served are listed in docs/reference/checkpoint-format.md",
        )
        where = f" ({node.name})" if node.name else ""
        raise GeneratorError(f"{name} has the operator {node.op_type}{where}: {advice}")


def with_image_output(model: Any, output: str, row: tuple[int, ...]) -> str:
    """Reshape rows of numbers to images (B, C, H, W); returns the new output's name."""
    model.graph.initializer.append(
        numpy_helper.from_array(np.array([0, *row], np.int64), "genserve.image_shape")
    )
    model.graph.node.append(
        helper.make_node("Reshape", [output, "genserve.image_shape"], ["genserve.image"])
    )
    (kind,) = (end.type.tensor_type.elem_type for end in model.graph.output if end.name == output)
    value = helper.make_tensor_value_info("genserve.image", kind, ["batch", *row])
    _replace_end(model.graph.output, output, value)
    return "genserve.image"


def with_image_input(model: Any, name: str, row: tuple[int, ...], old: tuple[int, ...]) -> str:
    """Let encode take images (B, *row) where its graph takes rows of another shape."""
    model.graph.initializer.append(
        numpy_helper.from_array(np.array([0, *old], np.int64), "genserve.row_shape")
    )
    reshape = helper.make_node("Reshape", ["genserve.picture", "genserve.row_shape"], [name])
    model.graph.node.insert(0, reshape)
    value = helper.make_tensor_value_info(
        "genserve.picture", onnx.TensorProto.FLOAT, ["batch", *row]
    )
    _replace_end(model.graph.input, name, value)
    return "genserve.picture"


def rename_input(model: Any, old: str, new: str) -> None:
    """Call an input otherwise."""
    for end in model.graph.input:
        end.name = new if end.name == old else end.name
    for node in model.graph.node:
        node.input[:] = [new if used == old else used for used in node.input]


def _replace_end(ends: Any, name: str, value: Any) -> None:
    kept = [end for end in ends if end.name != name]
    del ends[:]
    ends.extend([*kept, value])
