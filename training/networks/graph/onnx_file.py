"""Exported graphs: ONNX files beside a checkpoint, checked without running or trusting them.

``<name>.safetensors`` has one ``<name>.<operation>.onnx`` an operation, weights included. The
checkpoint's header holds each file's SHA-256. A digest shows that a file is the one published, not
that its author meant well, so a graph may hold nothing but listed operators of the standard
domain: no control flow, no functions, no file of weights elsewhere.

The checks parse the protobuf encoding (protobuf.dev/programming-guides/encoding) here, because the
``onnx`` package takes a third of a second to import, a third of a server's start. Field numbers are
those of ``onnx.proto`` (onnx 1.23); every field that is not listed is refused.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from training.networks.configs import Operation
from training.networks.files import MAX_FILE_BYTES, errors_naming, read_regular_file
from training.networks.header import Description, Graph

OPSETS = range(17, 24)  # allowed versions of the standard operators
MAX_NODES = 4096
MAX_IMPORTED_NODES = 16384  # a sampler of a few steps, unrolled, has thousands
# The operators that the networks use. None is random, has a subgraph, or allocates much from small
# inputs.
_NAMES = """
    Add AveragePool BatchNormalization Cast Clip Concat Constant Conv ConvTranspose DepthToSpace Div
    Equal Exp Flatten Gather GatherND Gelu Gemm GlobalAveragePool Identity LeakyRelu MatMul
    MatMulInteger Mul Pad Pow QLinearConv QuantizeLinear ReduceMax ReduceSum Relu Reshape Resize
    Shape Sigmoid Slice Softmax Softplus Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze
"""
OPERATORS = frozenset(_NAMES.split())
# What imported generators are made of besides. None is random, has a subgraph, or gives as many
# values as it finds (NonZero, Compress), so that every shape follows from the inputs' shapes. Some
# of them can allocate without bound, as chains of Concat and MatMul can: the engine gives imported
# graphs a limit of memory and of time (``app.engines.imported_backend``).
_MORE_NAMES = """
    Abs And ArgMax ArgMin Atan Attention Ceil Celu ConstantOfShape Cos Cosh CumSum Einsum Elu Erf
    Expand EyeLike Floor GatherElements GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HardSigmoid HardSwish InstanceNormalization IsInf IsNaN LRN
    LayerNormalization Less LessOrEqual Log LogSoftmax LpNormalization LpPool Max MaxPool Mean
    MeanVarianceNormalization Min Mish Mod Neg Not OneHot Or PRelu RMSNormalization Range Reciprocal
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare RotaryEmbedding Round ScatterElements ScatterND Selu Shrink Sign Sin
    Sinh Size Softsign SpaceToDepth Sum Tan ThresholdedRelu Tile TopK Trilu Where Xor
"""
IMPORTED_OPERATORS = OPERATORS | frozenset(_MORE_NAMES.split())


FieldValue = int | memoryview  # of a message's field: a number, or bytes
_Check = Callable[[FieldValue], None]


def graph_path(checkpoint: Path, operation: Operation) -> Path:
    """The file of one operation's graph."""
    return checkpoint.with_name(f"{checkpoint.stem}.{operation}.onnx")


def read_graph(
    checkpoint: Path, operation: Operation, graph: Graph, imported: bool = False
) -> bytes:
    """The graph of one operation, if its digest is the one in the checkpoint's header.

    Args:
        checkpoint: Its file; the graph is beside it.
        operation: Which graph.
        graph: From the checkpoint's header.
        imported: As in ``check_graph``.

    Raises:
        CheckpointError: missing, altered, or contains something not allowed. The message names the
            file and the reason.
    """
    path = graph_path(checkpoint, operation)
    with errors_naming(path):
        data = read_regular_file(path, MAX_FILE_BYTES)
        actual = hashlib.sha256(data).hexdigest()
        if actual != graph.sha256:
            raise ValueError(
                f"its SHA-256 is {actual[:12]}…, the checkpoint says {graph.sha256[:12]}…: "
                "damaged or altered"
            )
        check_graph(data, imported)
        return data


def portable_graphs(checkpoint: Path, description: Description) -> dict[Operation, bytes]:
    """The graphs of a portable checkpoint, which every engine runs; {} of another.

    Raises:
        CheckpointError: as ``read_graph``.
    """
    if not description.portable:
        return {}
    return {name: read_graph(checkpoint, name, graph) for name, graph in description.graphs.items()}


def check_graph(data: bytes, imported: bool = False) -> None:
    """Refuse an ONNX model that contains anything but the listed operators and their weights.

    Args:
        data: The file.
        imported: The network is not one of ours: IMPORTED_OPERATORS are allowed, and more nodes.

    Raises:
        ValueError: it contains something else, or is not an ONNX model.
    """
    seen: dict[str, int] = {"nodes": 0, "graphs": 0, "opsets": 0}
    most = MAX_IMPORTED_NODES if imported else MAX_NODES
    operators = IMPORTED_OPERATORS if imported else OPERATORS

    def operator(value: FieldValue) -> None:
        name = _text(value)
        if name not in operators:
            raise ValueError(f"operator {name[:40]!r} is not allowed in a graph")

    def node(value: FieldValue) -> None:
        seen["nodes"] += 1
        if seen["nodes"] > most:
            raise ValueError(f"it has more than {most} nodes")
        _each("a node", value, {1: _any, 2: _any, 3: _any, 4: operator, 5: _attribute, 7: _domain})

    def graph(value: FieldValue) -> None:
        seen["graphs"] += 1
        # nodes, name, initialisers, inputs, outputs, shapes between
        allowed = {1: node, 2: _any, 5: _tensor, 11: _any, 12: _any, 13: _any}
        _each("the graph", value, allowed)

    def opset(value: FieldValue) -> None:
        seen["opsets"] += 1
        _each("the operator set", value, {1: _domain, 2: _version})

    # IR version, producer and its version, model version, graph, operator sets
    _each("the model", memoryview(data), {1: _any, 2: _any, 3: _any, 5: _any, 7: graph, 8: opset})
    # If a field is given twice, parsers keep the last one or merge both.
    if seen["graphs"] != 1 or seen["opsets"] != 1:
        raise ValueError("it is not an ONNX model with one graph and one operator set")


def _any(_: FieldValue) -> None:
    """A field whose value needs no check."""


def _domain(value: FieldValue) -> None:
    if name := _text(value):
        raise ValueError(f"operators of the domain {name[:40]!r} are not allowed in a graph")


def _version(value: FieldValue) -> None:
    if value not in OPSETS:
        shown = value if isinstance(value, int) else "no number"
        raise ValueError(f"operator set {shown}; accepted: {OPSETS[0]} to {OPSETS[-1]}")


def _attribute(value: FieldValue) -> None:
    # Name, float, integer, string, tensor, floats, integers, strings, type; graphs are not here.
    plain = dict.fromkeys((1, 2, 3, 4, 7, 8, 9, 20), _any)
    _each("an attribute", value, plain | {5: _tensor})


def _tensor(value: FieldValue) -> None:
    # Dimensions, type, float, int32 and int64 numbers, name, raw bytes; external data is not here.
    _each("a tensor", value, dict.fromkeys((1, 2, 4, 5, 7, 8, 9), _any))


def _text(value: FieldValue) -> str:
    if isinstance(value, int):
        raise ValueError("a name is a number")
    return bytes(value).decode()


def _each(what: str, message: FieldValue, allowed: Mapping[int, _Check]) -> None:
    """Check every field of a protobuf message by its number."""
    if isinstance(message, int):
        raise ValueError(f"{what} is a number")
    for number, value in fields(message):
        if number not in allowed:
            raise ValueError(f"field {number} of {what} is not allowed")
        allowed[number](value)


def fields(message: memoryview) -> Iterator[tuple[int, FieldValue]]:
    """Number and value of each field of a protobuf message, in order.

    Raises:
        ValueError: it is not one.
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            number, place = _varint(message, place)
            yield key >> 3, number
            continue
        if kind == 2:
            length, place = _varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("it is not an ONNX model")
        if length > len(message) - place:
            raise ValueError("the ONNX model is truncated")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of up to 64 bits, seven bits a byte, and the offset after it."""
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
    raise ValueError("the ONNX model is truncated")
