"""Runs a portable graph with torch, operator by operator, to the bytes that ONNX Runtime gives.

A portable graph holds only what every machine computes alike: integers; sums of products that fit
float32 exactly, so that their order does not matter; and single operations on numbers, which IEEE
754 rounds one way. ``training.release.portable.exact_graph`` builds such graphs.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.networks.graph.reader import Attribute, Node, parse_graph

_EXACT = 2**24  # whole numbers up to this are exact in float32
_CASTS = {1: torch.float32, 2: torch.uint8, 6: torch.int32, 7: torch.int64}


class GraphRunner:
    """One graph, ready to run.

    Args:
        model: An ONNX file.
        device: Where it runs.

    Raises:
        ValueError: it has an operator or tensor that no portable graph has.
    """

    def __init__(self, model: bytes, device: str = "cpu") -> None:
        graph = parse_graph(model)
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self._values = {
            name: torch.from_numpy(array).to(device) for name, array in graph.constants.items()
        }
        self._nodes: list[Node] = []
        for node in graph.nodes:  # what depends on constants alone is computed once
            if node.operator not in _OPERATORS:
                raise ValueError(f"operator {node.operator} is in no portable graph")
            if all(name in self._values for name in node.inputs):
                _run(node, self._values)
            else:
                self._nodes.append(node)

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs, for the inputs in the graph's order."""
        values = self._values | dict(zip(self.inputs, inputs, strict=True))
        for node in self._nodes:
            _run(node, values)
        return tuple(values[name] for name in self.outputs)


def run_operator(
    operator: str, inputs: list[Tensor], attributes: Mapping[str, Attribute]
) -> tuple[Tensor, ...]:
    """One operator's outputs."""
    found = _OPERATORS[operator](attributes, *inputs)
    return found if isinstance(found, tuple) else (found,)


def _run(node: Node, values: dict[str, Tensor]) -> None:
    inputs = [values[name] for name in node.inputs]
    values.update(
        zip(node.outputs, run_operator(node.operator, inputs, node.attributes), strict=True)
    )


def _convolution(attributes: Mapping[str, Attribute], x: Tensor, weight: Tensor) -> Tensor:
    pads: Any = attributes.get("pads", (0, 0, 0, 0))
    if pads[:2] != pads[2:]:
        raise ValueError(f"a convolution is padded unevenly, by {pads}")
    stride: Any = attributes.get("strides", (1, 1))
    return F.conv2d(x, weight, stride=stride, padding=pads[:2])


def _conv(attributes: Mapping[str, Attribute], x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    dtype = torch.float32 if x.device.type == "cpu" else torch.float64
    sums = _convolution(attributes, x.to(dtype), weight.to(dtype))
    return (sums + bias.to(dtype).view(-1, 1, 1)).float()


def _matmul(_: Mapping[str, Attribute], x: Tensor, weight: Tensor) -> Tensor:
    dtype = torch.float32 if x.device.type == "cpu" else torch.float64
    return (x.to(dtype) @ weight.to(dtype)).float()


def _integer_matmul(_: Mapping[str, Attribute], x: Tensor, weight: Tensor) -> Tensor:
    return (x.double() @ weight.double()).to(torch.int32)


def _quantized_conv(
    attributes: Mapping[str, Attribute],
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    bias: Tensor,
) -> Tensor:
    if x_zero.any() or weight_zero.any():
        raise ValueError("a zero point of QLinearConv is not 0")
    terms = weight[0].numel()
    size = 255 * terms * int(weight.abs().max()) + int(bias.abs().max())
    exact = torch.float32 if size < _EXACT and x.device.type == "cpu" else torch.float64
    sums = _convolution(attributes, x.to(exact), weight.to(exact)).round()
    sums = (sums + bias.to(exact).view(-1, 1, 1)).float()
    return _quantized(sums * (x_scale * weight_scale / y_scale).view(-1, 1, 1), y_zero)


def _quantize(_: Mapping[str, Attribute], x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return _quantized(x / scale, zero)


def _quantized(values: Tensor, zero: Tensor) -> Tensor:
    """Rounded, half to even, and saturated to the type of the zero point."""
    limits = torch.iinfo(zero.dtype)
    return (values.round() + zero.float()).clamp(limits.min, limits.max).to(zero.dtype)


def _reshape(_: Mapping[str, Attribute], x: Tensor, shape: Tensor) -> Tensor:
    sizes = shape.tolist()
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)])


def _depth_to_space(attributes: Mapping[str, Attribute], x: Tensor) -> Tensor:
    if attributes["mode"] != "CRD":
        raise ValueError("DepthToSpace is not of mode CRD")
    size: Any = attributes["blocksize"]
    count, channels, height, width = x.shape
    x = x.view(count, channels // size**2, size, size, height, width)
    return x.permute(0, 1, 4, 2, 5, 3).reshape(count, -1, height * size, width * size)


def _gather(attributes: Mapping[str, Attribute], table: Tensor, index: Tensor) -> Tensor:
    if attributes.get("axis", 0) == 0:
        return table[index.long()]
    return table.index_select(attributes["axis"], index.long())  # type: ignore[arg-type]


def _sum(attributes: Mapping[str, Attribute], x: Tensor, axes: Tensor) -> Tensor:
    kept = bool(attributes.get("keepdims", 1))
    return x.sum(dim=axes.tolist(), keepdim=kept, dtype=x.dtype)


def _maximum(attributes: Mapping[str, Attribute], x: Tensor, axes: Tensor) -> Tensor:
    return x.amax(dim=axes.tolist(), keepdim=bool(attributes.get("keepdims", 1)))


_Operator = Callable[..., Tensor | tuple[Tensor, ...]]
_OPERATORS: dict[str, _Operator] = {
    "Add": lambda _, a, b: a + b,
    "Cast": lambda attributes, x: x.to(_CASTS[attributes["to"]]),
    "Clip": lambda _, x, low, high: x.clamp(low, high),
    "Concat": lambda attributes, *parts: torch.cat(parts, dim=attributes["axis"]),
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Div": lambda _, a, b: a / b,
    "Gather": _gather,
    "Identity": lambda _, x: x,
    "LeakyRelu": lambda attributes, x: torch.where(x < 0, x * attributes["alpha"], x),
    "MatMul": _matmul,
    "MatMulInteger": _integer_matmul,
    "Mul": lambda _, a, b: a * b,
    "QLinearConv": _quantized_conv,
    "QuantizeLinear": _quantize,
    "ReduceMax": _maximum,
    "ReduceSum": _sum,
    "Relu": lambda _, x: x.relu(),
    "Reshape": _reshape,
    "Split": lambda attributes, x, sizes: x.split(sizes.tolist(), dim=attributes["axis"]),
    "Sub": lambda _, a, b: a - b,
    "Transpose": lambda attributes, x: x.permute(attributes["perm"]),
}
