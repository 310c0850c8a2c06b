"""Sequences of layers as exact operations, in floating point or whole numbers; what a last layer
gives, and the noise that a graph is calibrated with."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.gan import Generator
from training.networks.vae import VAE, ResidualBlock
from training.release.portable.exact_graph import ExactGraph, Whole

SEED = 92  # of the noise: neither the tone curve's nor that of the figures
LATENT_PEAK = 10.0  # numbers of a latent beyond are cut off; normal ones do not reach it


@dataclass(frozen=True)
class Sums:
    """The last layer of a graph: whole numbers that stand for logits."""

    index: str  # int32, (B, C, H, W)
    lowest: float  # logit of 0
    step: float
    count: int

    @property
    def logits(self) -> Tensor:
        """Of each number, float64."""
        return self.lowest + self.step * torch.arange(self.count, dtype=torch.float64)


def noise_for(network: Generator | VAE, count: int) -> dict[str, Tensor]:
    """Inputs of ``generate``: z, and labels in turn."""
    random = torch.Generator().manual_seed(SEED)
    z = torch.randn(count, network.latent_dim, generator=random)
    if not network.num_classes:
        return {"z": z}
    return {"z": z, "labels": torch.arange(count) % network.num_classes}


def exact_layers(graph: ExactGraph, layers: Any, x: str | Whole) -> str:
    """A sequence of layers in floating point, with exact sums."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x = graph.affine(x, layer.weight, layer.bias)
            continue
        if isinstance(layer, nn.Conv2d):
            x = exact_convolution(graph, layer, x)
            continue
        name = x.name if isinstance(x, Whole) else x
        if isinstance(layer, nn.Flatten | nn.Unflatten):
            sizes = layer.unflattened_size if isinstance(layer, nn.Unflatten) else (-1,)
            name = graph.add("Reshape", name, np.array([0, *sizes]))
            x = x._replace(name=name) if isinstance(x, Whole) else name
            continue
        assert isinstance(x, str)
        if isinstance(layer, nn.SiLU):
            x = silu_table(graph, x) if graph.values[x].ndim == 2 else graph.silu(x)
        elif isinstance(layer, nn.ReLU):
            x = graph.add("Relu", x)
        elif isinstance(layer, nn.LeakyReLU):
            x = graph.add("LeakyRelu", x, alpha=float(np.float32(layer.negative_slope)))
        elif isinstance(layer, nn.PixelShuffle):
            x = graph.add("DepthToSpace", x, blocksize=layer.upscale_factor, mode="CRD")
        else:
            assert isinstance(layer, ResidualBlock), layer
            h = exact_convolution(graph, layer.conv1, graph.silu(x))
            h = exact_convolution(graph, layer.conv2, graph.silu(h))
            # Rounded, because engines add x within the convolution, in any order.
            on_grid = graph.whole(h, 2**15 - 1)
            x = graph.add("Add", x, graph.add("Mul", on_grid.name, np.float32(on_grid.unit)))
    assert isinstance(x, str)
    return x


def exact_convolution(graph: ExactGraph, layer: nn.Conv2d, x: str | Whole) -> str:
    pads, strides = list(layer.padding) * 2, list(layer.stride)
    return graph.affine(x, layer.weight, bias_of(layer), pads=pads, strides=strides)


def silu_table(graph: ExactGraph, x: str) -> str:
    """For few numbers, where a call costs more than its arithmetic."""
    high = math.ceil(1.25 * max(1.0, float(graph.values[x].max())))
    step = 2.0 ** math.ceil(math.log2((high + 16) / 8192))
    return graph.table(x, F.silu, -16.0, high, step)


def bias_of(layer: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    return torch.zeros(layer.out_channels) if layer.bias is None else layer.bias
