"""A generator as a portable graph, up to the whole numbers that stand for its logits."""

import math

import numpy as np
from torch import Tensor, nn

from training.networks.gan import SHARPNESS, Generator, append_label, select_mode
from training.release.portable.convolutions import (
    as_convolutions,
    as_maps,
    convolved,
    last_convolution,
)
from training.release.portable.exact_graph import ExactGraph
from training.release.portable.folding import folded
from training.release.portable.layers import LATENT_PEAK, Sums, exact_layers

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
    *steps, last = as_convolutions(others)
    maps = convolved(graph, as_maps(graph, x, wanted), steps)
    tone = network.config.tone
    black = tone[0][0] if tone else 0.0  # the value that becomes black
    low = float(np.arctanh(np.clip((black - 0.5) / 0.55, -0.95, 0.95))) - BELOW_BLACK
    return last_convolution(graph, maps, last, low, HIGHEST_LOGIT)


def _trunk_input(graph: ExactGraph, network: Generator) -> Tensor:
    z = graph.values["z"] if network.offsets is None else graph.values["z"] + network.offsets
    z = select_mode(z, network.config.modes)
    return append_label(z, graph.values.get("labels"), network.num_classes)
