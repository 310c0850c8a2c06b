"""Builds portable graphs: ONNX graphs that give the same bits on every processor and engine.

A sum of floats depends on its order, which libraries choose by processor and batch size. So here
every sum of products is one of whole numbers below 2^24, which float32 holds exactly in any order,
or an integer sum. Single operations on numbers are rounded alike everywhere (IEEE 754), so they may
be in floating point; exponentials and their like may not, and are tables or fractions.

A graph runs on calibration inputs while it is built, so that each layer's range is known when the
next one needs it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from training.networks.graph.onnx_file import check_graph
from training.networks.graph.runner import run_operator
from training.release.portable.rounding import Moments, rounded_weight

OPSET, IR_VERSION = 21, 10  # the first that round to 16 bits
LIMIT = 2**24  # of a sum of whole numbers in float32
_PRODUCTS = 0.75 * LIMIT  # for the products in it; the rest is for what is added
# An output's weights add up to at most this times the root of their number. Then weights and
# inputs, which share 24 bits, are rounded about equally coarsely, where inputs are a tenth of their
# peak.
_WEIGHTS = 1400.0
_FEWEST_STEPS = 2**6  # of a layer's input, on each side of 0
_PART = 32  # images whose patches are held at once
_MARGIN = 1.1  # of a range, over the largest calibration value
_TYPES = {torch.float32: TensorProto.FLOAT, torch.int64: TensorProto.INT64}
_TYPES |= {torch.uint8: TensorProto.UINT8, torch.int32: TensorProto.INT32}

Array = NDArray[Any]
Value = str | Array | np.generic  # of a node: another output, or a constant


class Whole(NamedTuple):
    """A float32 value that holds whole numbers."""

    name: str
    unit: float  # that one stands for
    bound: int  # of their magnitude


class ExactGraph:
    """A portable graph under construction.

    Args:
        inputs: Calibration values by input name, (B, ...).
    """

    def __init__(self, inputs: dict[str, Tensor]) -> None:
        self.values = dict(inputs)
        self.inputs = tuple(inputs)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[bytes, onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: Value, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node. Returns its output's name; several outputs' names as a tuple."""
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        made = tuple(f"v{len(self.values) + place}" for place in range(outputs))
        self._nodes.append(helper.make_node(operator, names, made, **attributes))
        results = run_operator(operator, [self.values[name] for name in names], attributes)
        self.values.update(zip(made, results, strict=True))
        return made[0] if outputs == 1 else made

    def whole(self, x: str, bound: int, peak: float | None = None) -> Whole:
        """Round a value to a grid of at most ``bound`` steps on each side of 0.

        Args:
            peak: Magnitude that must fit; None = the largest calibration value with a margin.
                Larger ones are cut off.
        """
        if peak is None:
            peak = _MARGIN * max(float(self.values[x].abs().max()), 1e-3)
        unit = float(np.float32(peak / bound))
        limit = np.float32(peak)
        x = self.add("Clip", x, -limit, limit)
        x = self.add("QuantizeLinear", x, np.float32(unit), np.int16(0))
        return Whole(self.add("Cast", x, to=TensorProto.FLOAT), unit, bound)

    def affine(
        self,
        x: str | Whole,
        weight: Tensor,
        bias: Tensor,
        peak: float | None = None,
        by_label: tuple[str, Tensor] | None = None,
        **attributes: Any,
    ) -> str:
        """A convolution or linear map, whose sums are exact.

        Args:
            x: Its input; rounded to a grid if it is not on one.
            weight: (O, I) or (O, I, h, w); rounded, each output's by a power of two of its own.
            bias: (O,); corrected for what rounding adds on average.
            peak: As for ``whole``.
            by_label: Input of class indices, and what each class adds, (K, O).
            attributes: Of Conv.

        Raises:
            ValueError: it has too many inputs.
        """
        weight, bias = weight.double(), bias.double()
        if isinstance(x, str):
            terms = weight[0].numel()
            bound = min(2**15 - 1, int(_PRODUCTS / (_WEIGHTS * terms**0.5 + terms / 2)))
            if bound < _FEWEST_STEPS:
                raise ValueError(f"a layer sums {terms} products: too many to be exact in float32")
            on_grid = self.whole(x, bound, peak)
            source = self.values[x].double()
        else:
            on_grid, source = x, self.values[x.name].double() * x.unit
        exact = weight * on_grid.unit
        # The grid of the sums must hold what is added, too.
        added = bias.abs() if by_label is None else bias.abs() + by_label[1].abs().amax(0)
        room = LIMIT / 16 / added.clamp(min=1e-30)
        rounded, largest = _rounded_weight(exact, room)
        assert largest * on_grid.bound <= _PRODUCTS
        got = _linear(self.values[on_grid.name].double(), rounded, attributes)
        wanted = _linear(source, weight, attributes)
        bias = bias + (wanted - got).transpose(0, 1).flatten(1).mean(1)
        step = 2.0 ** _exponents(exact, room)  # of the sums' grid, an inverse
        on_step = (bias * step).round() / step
        made = self._stored(rounded * _columns(step, weight), step)
        if weight.ndim == 4:
            bias_value = on_step.float().numpy()
            return str(self.add("Conv", on_grid.name, made, bias_value, **attributes))
        sums = self.add("MatMul", on_grid.name, made)
        if by_label is None:
            return str(self.add("Add", sums, on_step.float().numpy()))
        labels, table = by_label
        by_class = ((table.double() + bias) * step).round() / step
        return str(self.add("Add", sums, self.add("Gather", by_class.float().numpy(), labels)))

    def quantized_conv(
        self,
        x: tuple[str, Tensor],
        weight: Tensor,
        y_scales: Tensor,
        wanted: Tensor,
        stride: int = 1,
    ) -> str:
        """A convolution of unsigned bytes to unsigned bytes, padded by 1, so with a ReLU: integer
        sums.

        Args:
            x: Its input, and what one stands for in each map of that, (I,).
            weight: (O, I, h, h).
            y_scales: What one stands for in each map of the output, (O,).
            wanted: The sums in floating point, (B, O, H, W).
            stride: In pixels.
        """
        name, scales = x
        served, moments = self.values[name].float(), Moments()
        for maps, sums in zip(served.split(_PART), wanted.split(_PART), strict=True):
            patches = F.unfold(maps, weight.shape[2:], padding=1, stride=stride)
            moments.add(patches.transpose(1, 2).flatten(0, 1), sums.movedim(1, -1).flatten(0, -2))
        of_bytes = weight * scales.view(1, -1, 1, 1)
        flat, unit = rounded_weight(of_bytes.flatten(1), moments)
        whole = flat.view_as(weight)
        got = F.conv2d(served, whole * _columns(unit, weight), padding=1, stride=stride)
        bias = (wanted - got).mean((0, 2, 3))
        one, byte = np.float32(1), np.uint8(0)
        return str(
            self.add(
                *("QLinearConv", name, one, byte, whole.to(torch.int8).numpy()),
                *((unit / y_scales).numpy(), np.zeros(len(weight), np.int8), one, byte),
                (bias.double() / unit.double()).round().to(torch.int32).numpy(),
                pads=[1, 1, 1, 1],
                kernel_shape=list(weight.shape[2:]),
                strides=[stride, stride],
            )
        )

    def quantized_linear(self, x: tuple[str, Tensor], weight: Tensor, wanted: Tensor) -> str:
        """A linear map of unsigned bytes to floats, with integer sums.

        Args:
            x: Its input, and what one stands for in each number of that, (I,).
            weight: (O, I).
            wanted: The sums in floating point, (B, O).
        """
        name, scales = x
        served, moments = self.values[name].float(), Moments()
        moments.add(served, wanted)
        whole, unit = rounded_weight(weight * scales, moments)
        got = served @ (whole * unit[:, None]).T
        bias = ((wanted - got).mean(0) / unit).round().to(torch.int32)
        sums = self.add("MatMulInteger", name, whole.T.to(torch.int8).numpy())
        # Added to the whole numbers: engines join a sum of floats to the product before it, and may
        # then round once.
        sums = self.add("Cast", self.add("Add", sums, bias.numpy()), to=TensorProto.FLOAT)
        return str(self.add("Mul", sums, unit.numpy()))

    def table(self, x: str, function: Any, low: float, high: float, step: float) -> str:
        """A function of each number, by a table of its values at whole steps from low to high."""
        count = round((high - low) / step) + 1
        points = low + step * torch.arange(count, dtype=torch.float64)
        return str(
            self.add("Gather", function(points).float().numpy(), self.index(x, low, high, step))
        )

    def index(self, x: str, low: float, high: float, step: float) -> str:
        """The whole steps from ``low`` to each number, at most to ``high``: int32."""
        x = self.add("Clip", x, np.float32(low), np.float32(high))
        x = self.add("QuantizeLinear", x, np.float32(step), np.int16(round(-low / step)))
        return str(self.add("Cast", x, to=TensorProto.INT32))

    def silu(self, x: str) -> str:
        """x * sigmoid(x), to within 2e-4, by a fraction of polynomials: for many numbers faster
        than a table."""
        t = self.add("Clip", x, np.float32(-9), np.float32(9))
        square = self.add("Mul", t, t)
        above, below = (self._polynomial(square, c) for c in (_SIGMOID[0], _SIGMOID[1]))
        half = self.add("Div", self.add("Mul", t, above), below)
        return str(self.add("Mul", x, self.add("Add", half, np.float32(0.5))))

    def _polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        """By Horner's rule, the highest power first."""
        first, *others, last = map(np.float32, coefficients)
        total = self.add("Mul", x, first)
        for coefficient in others:
            total = self.add("Mul", self.add("Add", total, coefficient), x)
        return str(self.add("Add", total, last))

    def model(self, outputs: dict[str, str], sizes: Mapping[str, Sequence[int | str]]) -> bytes:
        """The ONNX model.

        Args:
            outputs: Names that outputs get -> values.
            sizes: Shapes of inputs and outputs without the batch.
        """
        nodes = list(self._nodes)
        for name, value in outputs.items():
            nodes.append(helper.make_node("Identity", [value], [name]))
        dtypes = {name: self.values[name].dtype for name in self.inputs}
        dtypes |= {name: self.values[value].dtype for name, value in outputs.items()}
        ends = {
            name: helper.make_tensor_value_info(name, _TYPES[dtype], ["batch", *sizes[name]])
            for name, dtype in dtypes.items()
        }
        graph = helper.make_graph(
            *(nodes, "portable", [ends[name] for name in self.inputs]),
            *([ends[name] for name in outputs], list(self._constants.values())),
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString(deterministic=True)
        check_graph(data)
        return data

    def _constant(self, value: Array | np.generic) -> str:
        """The name of a constant; equal ones are stored once."""
        array = np.asarray(value, order="C")
        key = f"{array.dtype} {array.shape} ".encode() + array.tobytes()
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(array, name)
            self.values[name] = torch.from_numpy(np.array(array))
        return self._constants[key].name

    def _stored(self, whole: Tensor, inverse_steps: Tensor) -> str:
        """Weights (O, ...) of whole numbers by powers of two, stored in 8 or 16 bits: float32.

        A linear map's are (I, O).
        """
        steps = _columns(1 / inverse_steps, whole)
        if whole.ndim == 2:
            whole, steps = whole.T, steps.T
        small = torch.int8 if whole.abs().max() < 2**7 else torch.int16
        stored = self.add("Cast", whole.to(small).numpy(), to=TensorProto.FLOAT)
        return str(self.add("Mul", stored, steps.float().numpy()))


# Of t (t^2 a + b) ... = sigmoid(t) - 1/2 for |t| up to 9: numerator and denominator in t^2, fitted
# by least squares of the fourth power; the largest error is 1.9e-5.
_SIGMOID = (
    (1.1167838762067956e-05, 0.006478539324629941, 0.24997536481226276),
    (0.0008267757171482496, 0.10917156274375026, 1.0),
)


def _columns(per_output: Tensor, like: Tensor) -> Tensor:
    """(O,) to be multiplied with weights (O, ...)."""
    return per_output.view(-1, *[1] * (like.ndim - 1))


def _exponents(weight: Tensor, room: Tensor) -> Tensor:
    """Of each output's power of two by which its weights become whole numbers."""
    flat = weight.abs().flatten(1)
    fitting = _WEIGHTS * flat.shape[1] ** 0.5 / flat.sum(1)
    most = (2**15 - 1) / flat.amax(1)
    return torch.stack([fitting, most, room]).amin(0).clamp(max=2.0**30).log2().floor()


def _rounded_weight(weight: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
    """Weights on their grids; and the largest sum of an output's magnitudes, in whole numbers."""
    steps = _columns(2.0 ** _exponents(weight, room), weight)
    whole = (weight * steps).round()
    return whole / steps, whole.abs().flatten(1).sum(1).max()


def _linear(x: Tensor, weight: Tensor, attributes: dict[str, Any]) -> Tensor:
    if weight.ndim == 2:
        return x @ weight.T
    return F.conv2d(
        *(x, weight), stride=attributes.get("strides", 1), padding=attributes["pads"][:2]
    )
