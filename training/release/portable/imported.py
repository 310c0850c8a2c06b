"""Quantises an imported generator's graph: one that gives the same bytes on every machine.

For chains of linear layers and convolutions with ReLUs, as most small generators are. Their sums
become sums of whole numbers (``ExactGraph.affine``), a batch norm becomes part of the layer before
it, and the last tanh or sigmoid a table of 256 levels. Other layers are refused by name.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor

from training.importing.errors import GeneratorError
from training.networks.graph.config import RANGES, GraphConfig
from training.networks.graph.rows import decoder_feed
from training.networks.noise import latents_of_seeds
from training.release.portable.exact_graph import ExactGraph

CALIBRATION = 256  # samples by which ranges are chosen
FIRST_SEED = 2**32  # of them: not among the seeds by which likeness is told
# Of the last sum: where the function is within half a level of its limits, and steps of a level's
# tenth where it is steepest.
_ENDS: dict[str, tuple[float, float]] = {"Tanh": (3.5, 2**-10), "Sigmoid": (7.0, 2**-9)}
_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"Tanh": torch.tanh, "Sigmoid": torch.sigmoid}
_SHAPES = ("Reshape", "Flatten", "Unsqueeze", "Squeeze", "Identity")


def portable_graph(data: bytes, config: GraphConfig) -> bytes:
    """The graph as a portable one, whose images are levels, uint8.

    Args:
        data: A graph that makes images.
        config: Of it.

    Raises:
        GeneratorError: it has a layer for which there is no exact form; names it.
    """
    model = onnx.load_from_string(data)
    latents = latents_of_seeds(config, range(FIRST_SEED, FIRST_SEED + CALIBRATION))
    labels = np.arange(CALIBRATION) % config.num_classes if config.num_classes else None
    feed = decoder_feed(config, latents, labels)
    return _Builder(model, feed, config).built()


_Layer = tuple[str, Tensor, Tensor, dict[str, Any]]  # input, weight, bias, attributes


class _Builder:
    """One graph, node by node."""

    def __init__(self, model: Any, feed: Mapping[str, NDArray[Any]], config: GraphConfig) -> None:
        self._model, self._config = model, config
        self._constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        ends = {end.name: end for end in model.graph.input}
        self._exact = ExactGraph({name: torch.from_numpy(feed[name].copy()) for name in ends})
        self._names: dict[str, str] = {name: name for name in ends}
        self._affine: dict[str, _Layer] = {}  # added where one is needed

    def built(self) -> bytes:
        """The model."""
        *nodes, last = self._without_shapes_at_the_end()
        if last.op_type not in _ENDS:
            raise GeneratorError(
                f"--portable: it ends with {last.op_type}; it has to end with tanh or sigmoid"
            )
        for node in nodes:
            self._convert(node)
        limit, step = _ENDS[last.op_type]
        index = self._exact.index(self._value(last.input[0]), -limit, limit, step)
        points = -limit + step * torch.arange(round(2 * limit / step) + 1, dtype=torch.float64)
        low, high = RANGES[self._config.output.range]
        share = (_FUNCTIONS[last.op_type](points) - low) / (high - low)
        table = (share * 255).round().clamp(0, 255).numpy().astype(np.uint8)
        levels = self._exact.add("Gather", table, index)
        shape = self._config.image_shape
        if self._config.output.layout == "NHWC":
            shape = (*shape[1:], shape[0])
        levels = self._exact.add("Reshape", levels, np.array([0, *shape]))
        sizes = {name: list(self._exact.values[name].shape[1:]) for name in self._exact.inputs}
        made = self._exact.model(
            {self._config.output.name: levels}, sizes | {self._config.output.name: list(shape)}
        )
        return self._folded(made)

    def _without_shapes_at_the_end(self) -> list[Any]:
        """The nodes, without what only reshapes the images: they get their shape anew."""
        nodes = list(self._model.graph.node)
        while nodes and nodes[-1].op_type in _SHAPES:
            nodes.pop()
        if not nodes:
            raise GeneratorError("--portable: the graph computes nothing")
        return nodes

    def _value(self, name: str) -> str:
        """The exact graph's name of a value; a layer that waited for its norm is added now."""
        if name not in self._names:
            x, weight, bias, attributes = self._affine[name]
            self._names[name] = self._exact.affine(x, weight, bias, **attributes)
        return self._names[name]

    def _convert(self, node: Any) -> None:
        """Add one node."""
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        constants = [self._constants.get(name) for name in node.input]
        out, kind = node.output[0], node.op_type
        if all(constant is not None for constant in constants):
            if kind == "Constant":
                self._constants[out] = numpy_helper.to_array(attributes["value"])
                return
            raise self._refusal(node, "of constants alone")
        if kind in ("Gemm", "MatMul", "Conv"):
            self._layer(node, attributes, constants)
        elif kind == "Add" and (added := self._as_bias(node, constants)):
            (x, weight, bias, more), constant = added
            self._affine[out] = (x, weight, bias + constant, more)
        elif kind == "BatchNormalization" and node.input[0] in self._affine:
            x, weight, bias, more = self._affine[node.input[0]]
            scale, shift, mean, variance = (
                torch.from_numpy(np.array(c, np.float64)) for c in constants[1:5]
            )
            factor = scale / (variance + attributes.get("epsilon", 1e-5)).sqrt()
            columns = factor.view(-1, *[1] * (weight.ndim - 1))
            self._affine[out] = (x, weight * columns, (bias - mean) * factor + shift, more)
        elif kind == "Relu":
            self._names[out] = self._exact.add("Relu", self._value(node.input[0]))
        elif kind == "LeakyRelu":
            slope = float(np.float32(attributes.get("alpha", 0.01)))
            x = self._value(node.input[0])
            self._names[out] = self._exact.add("LeakyRelu", x, alpha=slope)
        elif kind in _SHAPES:
            self._reshape(node)
        elif kind == "Gather" and constants[0] is not None and not attributes.get("axis", 0):
            self._names[out] = self._exact.add("Gather", constants[0], self._value(node.input[1]))
        elif kind == "Concat" and not any(c is not None for c in constants):
            parts = [self._value(name) for name in node.input]
            self._names[out] = self._exact.add("Concat", *parts, axis=attributes["axis"])
        else:
            raise self._refusal(node)

    def _as_bias(self, node: Any, constants: list[Any]) -> tuple[_Layer, Tensor] | None:
        """A layer and what is added to each of its outputs, (O,) or (); None = it is no such sum,
        as where each pixel of a map gets its own."""
        for layer, constant in ((node.input[0], constants[1]), (node.input[1], constants[0])):
            if layer not in self._affine or constant is None:
                continue
            axes = self._affine[layer][1].ndim  # of weights and outputs alike
            sizes = (1,) * (axes - constant.ndim) + constant.shape
            if constant.ndim <= axes and all(n == 1 for k, n in enumerate(sizes) if k != 1):
                return self._affine[layer], torch.from_numpy(np.array(constant, np.float64)).view(
                    -1
                )
        return None

    def _layer(self, node: Any, attributes: dict[str, Any], constants: list[Any]) -> None:
        """A linear layer or convolution, which waits for a norm that may follow."""
        weight = constants[1]
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0, "group": 1, "auto_pad": b"NOTSET"}
        unusual = [key for key, usual in plain.items() if attributes.get(key, usual) != usual]
        pads = attributes.get("pads", [0, 0, 0, 0])
        if weight is None or unusual or set(attributes.get("dilations", [1])) != {1}:
            raise self._refusal(node, f"with {', '.join(unusual) or 'weights that are computed'}")
        more = {}
        if node.op_type == "Conv":
            if weight.ndim != 4 or pads[:2] != pads[2:]:
                raise self._refusal(node, "with uneven padding, or not of pictures")
            more = {"pads": pads, "strides": attributes.get("strides", [1, 1])}
        elif weight.ndim != 2:
            raise self._refusal(node, f"with weights of {weight.ndim} axes")
        elif node.op_type == "MatMul" or not attributes.get("transB", 0):
            weight = weight.T
        weight = torch.from_numpy(np.array(weight, np.float64))
        bias = torch.zeros(len(weight), dtype=torch.float64)
        if len(constants) > 2:
            if constants[2] is None:
                raise self._refusal(node, "with a bias that is computed")
            bias = bias + torch.from_numpy(np.array(constants[2], np.float64))
        self._affine[node.output[0]] = (self._value(node.input[0]), weight, bias, more)

    def _reshape(self, node: Any) -> None:
        """As the calibration values are shaped: the batch is the first axis before and after."""
        x = self._value(node.input[0])
        value = self._exact.values[x]
        if node.op_type == "Identity":
            self._names[node.output[0]] = x
            return
        sizes = self._constants.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type == "Flatten":
            sizes = np.array([0, -1])
        elif node.op_type == "Reshape" and sizes is not None and sizes.ndim == 1:
            sizes = np.array([0, *sizes[1:]])
        elif node.op_type == "Unsqueeze" and sizes is not None and value.ndim == 2:
            sizes = np.array([0, value.shape[1], *[1] * len(sizes)])
        elif node.op_type == "Squeeze" and sizes is not None and 0 not in sizes:
            kept = [n for axis, n in enumerate(value.shape) if axis and axis not in sizes]
            sizes = np.array([0, *kept])
        else:
            raise self._refusal(node)
        self._names[node.output[0]] = self._exact.add("Reshape", x, sizes.astype(np.int64))

    def _refusal(self, node: Any, why: str = "") -> GeneratorError:
        where = f" ({node.name})" if node.name else ""
        return GeneratorError(
            f"--portable: {node.op_type}{where} {why}".rstrip() + " has no exact form here; "
            "linear layers, convolutions, batch norms after them, ReLUs, embeddings and reshapes "
            "have. Import it without --portable"
        )

    def _folded(self, data: bytes) -> bytes:
        """Weights computed once, here: the service computes nothing while it loads an import."""
        model = onnx.load_from_string(data)
        known = {tensor.name for tensor in model.graph.initializer}
        kept = []
        for node in model.graph.node:
            if set(node.input) <= known:
                known.add(node.output[0])
                array = self._exact.values[node.output[0]].numpy()
                model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
            else:
                kept.append(node)
        used = {name for node in kept for name in node.input}
        tensors = [tensor for tensor in model.graph.initializer if tensor.name in used]
        del model.graph.node[:], model.graph.initializer[:]
        model.graph.node.extend(kept)
        model.graph.initializer.extend(tensors)
        folded: bytes = model.SerializeToString(deterministic=True)
        return folded
