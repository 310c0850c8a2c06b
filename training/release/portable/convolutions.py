"""Chains of convolutions with a ReLU between any two, in whole numbers: bytes by 7-bit weights."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import Tensor, nn

from training.networks.vae import ShortBlock
from training.release.portable.exact_graph import ExactGraph
from training.release.portable.folding import FoldedResidual, with_identity
from training.release.portable.layers import Sums, bias_of

# The last convolution is computed in copies, each for a part of its range, as one has 8 bits only.
COPIES = 4


@dataclass(frozen=True)
class Convolution:
    """A convolution with padding 1."""

    weight: Tensor
    bias: Tensor
    stride: int = 1
    shuffles: bool = False  # four outputs then become one map of twice the size


@dataclass(frozen=True)
class Maps:
    """Bytes of maps in a graph."""

    name: str
    scales: Tensor  # what one stands for, in each map (C,)
    wanted: Tensor  # in floating point, (B, C, H, W), at least 0


def as_maps(graph: ExactGraph, x: str, wanted: Tensor) -> Maps:
    """A ReLU of floats (B, N) as bytes in the shape of what is wanted, (B, C, H, W)."""
    scale = _byte_scale(wanted)
    x = graph.add("QuantizeLinear", x, np.float32(scale), np.uint8(0))
    if graph.values[x].shape != wanted.shape:
        x = graph.add("Reshape", x, np.array([0, *wanted.shape[1:]]))
    return Maps(x, torch.full((wanted.shape[1],), scale), wanted)


def convolved(graph: ExactGraph, maps: Maps, steps: Iterable[Convolution]) -> Maps:
    """Convolutions, each with a ReLU."""
    for step in steps:
        sums = F.conv2d(maps.wanted, step.weight, step.bias, padding=1, stride=step.stride)
        wanted = F.pixel_shuffle(sums.relu(), 2) if step.shuffles else sums.relu()
        scales = _map_scales(wanted)
        by_output = scales.repeat_interleave(4) if step.shuffles else scales
        x = graph.quantized_conv(
            (maps.name, maps.scales), step.weight, by_output, sums, step.stride
        )
        if step.shuffles:
            x = graph.add("DepthToSpace", x, blocksize=2, mode="CRD")
        maps = Maps(x, scales, wanted)
    return maps


def last_convolution(
    graph: ExactGraph, maps: Maps, last: Convolution, low: float, high: float
) -> Sums:
    """Logits as whole numbers of ten bits: the sum of COPIES bytes, each of a part of the range.

    Args:
        last: Its outputs are shuffled to images of twice the maps' size.
        low, high: The range of logits; others are cut off.
    """
    step = (high - low) / (255 * COPIES)
    parts = last.bias - low - torch.arange(COPIES)[:, None] * 255 * step  # (COPIES, O)
    weight = last.weight.repeat(COPIES, 1, 1, 1)
    sums = F.conv2d(maps.wanted, weight, parts.flatten(), padding=1)
    steps = torch.full((len(weight),), step)
    y = graph.quantized_conv((maps.name, maps.scales), weight, steps, sums)
    y = graph.add("Cast", y, to=TensorProto.INT32)
    outputs, (height, width) = len(last.bias), maps.wanted.shape[2:]
    y = graph.add("Reshape", y, np.array([0, COPIES, outputs, height * width]))
    y = graph.add("ReduceSum", y, np.array([1]), keepdims=0)
    y = graph.add("Reshape", y, np.array([0, outputs, height, width]))
    # DepthToSpace has no kernel for these integers.
    y = graph.add("Reshape", y, np.array([-1, outputs // 4, 2, 2, height, width]))
    y = graph.add("Transpose", y, perm=[0, 1, 4, 2, 5, 3])
    y = graph.add("Reshape", y, np.array([-1, outputs // 4, 2 * height, 2 * width]))
    return Sums(y, low, step, 255 * COPIES + 1)


def as_convolutions(layers: Iterable[nn.Module]) -> list[Convolution]:
    """A chain of layers, folded, with a ReLU between any two convolutions."""
    found: list[Convolution] = []
    doubled = False
    for layer in layers:
        if isinstance(layer, FoldedResidual):
            found.append(Convolution(layer.conv.weight, bias_of(layer.conv)))
        elif isinstance(layer, ShortBlock):
            found.append(Convolution(with_identity(layer.conv.weight), bias_of(layer.conv)))
        elif isinstance(layer, nn.Upsample):
            doubled = True
        elif isinstance(layer, nn.ConvTranspose2d):
            weight = _phases(layer.weight.transpose(0, 1), _TRANSPOSED)
            found.append(Convolution(weight, bias_of(layer).repeat_interleave(4), shuffles=True))
        elif isinstance(layer, nn.Conv2d) and doubled:
            weight = _phases(layer.weight, _NEAREST)
            found.append(Convolution(weight, bias_of(layer).repeat_interleave(4), shuffles=True))
            doubled = False
        elif isinstance(layer, nn.Conv2d):
            found.append(Convolution(layer.weight, bias_of(layer), layer.stride[0]))
        elif isinstance(layer, nn.PixelShuffle):
            found[-1] = replace(found[-1], shuffles=True)
        else:
            assert isinstance(layer, nn.ReLU | nn.BatchNorm2d | nn.Unflatten), layer
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


def _map_scales(maps: Tensor) -> Tensor:
    """What one stands for in each of the maps (B, C, H, W): (C,).

    A map of small numbers gets a small scale, which its weights and those of the next layer take up
    (Nagel et al. 2019, arXiv:1906.04721, section 4.1). Halfway between its own scale and that of
    all, since what bytes win the next weights lose, whose outputs have one scale each.
    """
    own = torch.tensor([_byte_scale(one) for one in maps.unbind(1)])
    return (own * _byte_scale(maps)).sqrt()


def _byte_scale(values: Tensor) -> float:
    """The scale of bytes with the least mean squared error of values of at least 0."""
    flat = values.flatten()
    flat = flat[:: max(1, len(flat) // 1_000_000)]
    largest = max(float(flat.max()), 1e-6)
    scales = [largest * part / 255 for part in np.linspace(0.5, 1, 26)]
    errors = [float(((flat / s).round().clamp(max=255) * s - flat).square().mean()) for s in scales]
    return float(np.float32(scales[int(np.argmin(errors))]))
