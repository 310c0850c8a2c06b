"""A generator as a portable graph, up to the whole numbers that stand for its logits."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import Tensor, nn

from training.networks.gan import SHARPNESS, Generator, append_label, select_mode
from training.release.portable.exact_graph import ExactGraph
from training.release.portable.folding import FoldedResidual, folded
from training.release.portable.layers import LATENT_PEAK, Sums, bias_of, exact_layers

# The last convolution of a generator is computed in copies, each for a part of its range, as one
# has 8 bits only.
COPIES = 4
HIGHEST_LOGIT = 2.6  # 0.99 of the way to white's limit
BELOW_BLACK = 0.15  # logits told apart below the one that becomes black, so that it can be fitted


def generator_sums(graph: ExactGraph, network: Generator) -> Sums:
    """Add a generator to a graph with its inputs."""
    x = _select_mode(graph, network)
    layers = folded(network.trunk)
    if network.config.architecture == "dense":
        return _dense(graph, network, layers, x)
    return _convolutional(graph, network, layers, x)


def _select_mode(graph: ExactGraph, network: Generator) -> str:
    """z as the trunk gets it: see ``training.networks.gan.select_mode``."""
    modes = network.config.modes
    x = "z"
    if network.offsets is not None:
        x = graph.add("Add", x, network.offsets.numpy())
    if not modes:
        return x
    sizes = np.array([modes, network.latent_dim - modes])
    parts = graph.add("Split", x, sizes, outputs=2, axis=1) if sizes[1] else [x]
    axes = np.array([1])
    first, unit, _ = graph.whole(parts[0], 2**15 - 1, LATENT_PEAK)
    below = graph.add("Sub", first, graph.add("ReduceMax", first, axes, keepdims=1))
    # Multiples of 2^-12, so that the sum of a few is exact; less than half of one is 0.
    power = graph.table(
        below,
        lambda x: (SHARPNESS * unit * x).exp().mul(2**12).round() / 2**12,
        *(-math.ceil(9 / SHARPNESS / unit), 0.0, 1.0),
    )
    share = graph.add("Div", power, graph.add("ReduceSum", power, axes, keepdims=1))
    return str(graph.add("Concat", share, *parts[1:], axis=1))


def _first(graph: ExactGraph, network: Generator, layer: nn.Linear, x: str) -> str:
    """The first linear layer, which gets the latent and the label."""
    weight = layer.weight[:, : network.latent_dim]
    by_label = None
    if network.num_classes:
        by_label = ("labels", layer.weight[:, network.latent_dim :].T)
    return graph.affine(x, weight, layer.bias, LATENT_PEAK, by_label)


def _dense(graph: ExactGraph, network: Generator, layers: nn.Sequential, x: str) -> Sums:
    first, *others = layers
    assert isinstance(first, nn.Linear)
    x = exact_layers(graph, others, _first(graph, network, first, x))
    x = graph.add("Reshape", x, np.array([0, *network.image_shape]))
    low, high, step = -2.0, HIGHEST_LOGIT, 2.0**-9
    return Sums(graph.index(x, low, high, step), low, step, round((high - low) / step) + 1)


def _convolutional(graph: ExactGraph, network: Generator, layers: nn.Sequential, x: str) -> Sums:
    linear, unflatten, _, *others = layers
    assert isinstance(linear, nn.Linear)
    assert isinstance(unflatten, nn.Unflatten)
    x = _first(graph, network, linear, x)
    shape = list(unflatten.unflattened_size)
    wanted = linear(_trunk_input(graph, network)).unflatten(1, shape).relu()
    scale = _byte_scale(wanted)
    x = graph.add("QuantizeLinear", x, np.float32(scale), np.uint8(0))
    x = graph.add("Reshape", x, np.array([0, *shape]))
    *steps, last = _as_convolutions(others)
    for step in steps:
        sums = F.conv2d(wanted, step.weight, step.bias, padding=1)
        next_scale = _byte_scale(sums.relu())
        x = graph.quantized_conv((x, scale), step.weight, next_scale, sums)
        wanted, scale = sums.relu(), next_scale
        if step.shuffles:
            x = graph.add("DepthToSpace", x, blocksize=2, mode="CRD")
            wanted = F.pixel_shuffle(wanted, 2)
    return _last_convolution(graph, network, last, (x, scale), wanted)


def _last_convolution(
    graph: ExactGraph,
    network: Generator,
    last: "_Convolution",
    x: tuple[str, float],
    wanted: Tensor,
) -> Sums:
    """Logits as whole numbers of ten bits: the sum of COPIES bytes, each of a part of the range."""
    tone = network.config.tone
    black = tone[0][0] if tone else 0.0  # the value that becomes black
    low = float(np.arctanh(np.clip((black - 0.5) / 0.55, -0.95, 0.95))) - BELOW_BLACK
    step = (HIGHEST_LOGIT - low) / (255 * COPIES)
    parts = last.bias - low - torch.arange(COPIES)[:, None] * 255 * step  # (COPIES, O)
    weight = last.weight.repeat(COPIES, 1, 1, 1)
    sums = F.conv2d(wanted, weight, parts.flatten(), padding=1)
    y = graph.quantized_conv(x, weight, step, sums)
    y = graph.add("Cast", y, to=TensorProto.INT32)
    outputs, side = len(last.bias), network.config.image_size // 2
    y = graph.add("Reshape", y, np.array([0, COPIES, outputs, side * side]))
    y = graph.add("ReduceSum", y, np.array([1]), keepdims=0)
    y = graph.add("Reshape", y, np.array([0, outputs, side, side]))
    # DepthToSpace has no kernel for these integers.
    y = graph.add("Reshape", y, np.array([-1, outputs // 4, 2, 2, side, side]))
    y = graph.add("Transpose", y, perm=[0, 1, 4, 2, 5, 3])
    y = graph.add("Reshape", y, np.array([-1, *network.image_shape]))
    return Sums(y, low, step, 255 * COPIES + 1)


def _trunk_input(graph: ExactGraph, network: Generator) -> Tensor:
    z = graph.values["z"] if network.offsets is None else graph.values["z"] + network.offsets
    z = select_mode(z, network.config.modes)
    return append_label(z, graph.values.get("labels"), network.num_classes)


@dataclass(frozen=True)
class _Convolution:
    """A 3x3 convolution with padding 1."""

    weight: Tensor
    bias: Tensor
    shuffles: bool = False  # four outputs then become one map of twice the size


def _as_convolutions(layers: list[nn.Module]) -> list[_Convolution]:
    """The convolutional part of a trunk, folded, with a ReLU between any two."""
    found: list[_Convolution] = []
    doubled = False
    for layer in layers:
        if isinstance(layer, FoldedResidual):
            found.append(_Convolution(layer.conv.weight, bias_of(layer.conv)))
        elif isinstance(layer, nn.Upsample):
            doubled = True
        elif isinstance(layer, nn.ConvTranspose2d):
            weight = _phases(layer.weight.transpose(0, 1), _TRANSPOSED)
            found.append(_Convolution(weight, bias_of(layer).repeat_interleave(4), shuffles=True))
        elif isinstance(layer, nn.Conv2d) and doubled:
            weight = _phases(layer.weight, _NEAREST)
            found.append(_Convolution(weight, bias_of(layer).repeat_interleave(4), shuffles=True))
            doubled = False
        elif isinstance(layer, nn.Conv2d):
            found.append(_Convolution(layer.weight, bias_of(layer)))
    return found


# For each half of a doubled side: (offset of the input, place in the kernel) pairs.
_NEAREST = (((-1, 0), (0, 1), (0, 2)), ((0, 0), (0, 1), (1, 2)))  # upsampled, then 3 wide
_TRANSPOSED = (((-1, 3), (0, 1)), ((0, 2), (1, 0)))  # transposed, 4 wide, stride 2, padding 1


def _phases(weight: Tensor, taps: tuple[tuple[tuple[int, int], ...], ...]) -> Tensor:
    """A convolution that doubles the sides as one 3x3 convolution with four times the outputs.

    Each of the four is one pixel of each 2x2 block; a pixel shuffle puts them in place.
    """
    outputs, inputs = weight.shape[:2]
    phases = torch.zeros(outputs, 2, 2, inputs, 3, 3)
    for py, rows in enumerate(taps):
        for px, columns in enumerate(taps):
            for dy, ky in rows:
                for dx, kx in columns:
                    phases[:, py, px, :, dy + 1, dx + 1] += weight[:, :, ky, kx]
    return phases.view(4 * outputs, inputs, 3, 3)


def _byte_scale(values: Tensor) -> float:
    """The scale of bytes with the least mean squared error of values of at least 0."""
    flat = values.flatten()
    flat = flat[:: max(1, len(flat) // 1_000_000)]
    largest = max(float(flat.max()), 1e-6)
    scales = [largest * part / 255 for part in np.linspace(0.5, 1, 26)]
    errors = [float(((flat / s).round().clamp(max=255) * s - flat).square().mean()) for s in scales]
    return float(np.float32(scales[int(np.argmin(errors))]))
