"""A VAE's operations as portable graphs."""

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn

from training.networks.prior import Coupling, FlowPrior
from training.networks.vae import VAE
from training.release.portable.convolutions import (
    as_convolutions,
    as_maps,
    convolved,
    last_convolution,
)
from training.release.portable.exact_graph import ExactGraph, Whole
from training.release.portable.layers import LATENT_PEAK, Sums, exact_layers, silu_table


def decoder_sums(graph: ExactGraph, network: VAE, with_prior: bool) -> Sums:
    """Add a decoder, after the prior if it is wanted, to a graph whose input is z."""
    z = _flow(graph, network.prior) if with_prior else "z"
    first, *others = network.decoder.trunk
    assert isinstance(first, nn.Linear)
    x = graph.affine(z, first.weight, first.bias, LATENT_PEAK)
    low, high = -8.0, 8.0
    if network.config.architecture == "compact":
        relu, linear, unflatten, *maps = others
        x = exact_layers(graph, (relu, linear), x)
        start = nn.Sequential(first, relu, linear, unflatten, nn.ReLU())
        wanted = start(network.prior(graph.values["z"]) if with_prior else graph.values["z"])
        *steps, last = as_convolutions(maps)
        return last_convolution(
            graph, convolved(graph, as_maps(graph, x, wanted), steps), last, low, high
        )
    x, step = exact_layers(graph, others, x), 2.0**-7
    return Sums(graph.index(x, low, high, step), low, step, round((high - low) / step) + 1)


def _flow(graph: ExactGraph, prior: FlowPrior) -> str:
    z = "z"
    for coupling, mixing in zip(prior.couplings, prior.mixings, strict=True):
        assert isinstance(coupling, Coupling)
        size = graph.values[z].shape[1]
        sizes = np.array([coupling.kept, size - coupling.kept])
        kept, moved = graph.add("Split", z, sizes, outputs=2, axis=1)
        h = kept
        for layer in (coupling.layer1, coupling.layer2):
            h = silu_table(graph, graph.affine(h, layer.weight, layer.bias))
        both = graph.affine(h, coupling.out.weight, coupling.out.bias)
        log_scale, shift = graph.add("Split", both, sizes[[1, 1]], outputs=2, axis=1)
        scale = graph.table(log_scale, lambda x: (2 * (x / 2).tanh()).exp(), -8.0, 8.0, 2.0**-9)
        moved = graph.add("Add", graph.add("Mul", moved, scale), shift)
        z = graph.add("Concat", kept, moved, axis=1)
        if (matrix := getattr(mixing, "weight", None)) is not None:
            z = graph.affine(z, matrix, torch.zeros(size))
        else:
            z = graph.add("Gather", z, np.arange(size)[::-1].copy(), axis=1)
    return str(z)


def encoder_model(network: VAE, images: Tensor) -> bytes:
    """The whole graph of ``encode``, calibrated on images (B, C, H, W) in [0, 1]."""
    graph = ExactGraph({"images": (images * 255).round() / 255})
    x = graph.add("QuantizeLinear", "images", np.float32(1 / 255), np.uint8(0))
    x = graph.add("Cast", x, to=TensorProto.FLOAT)
    x = graph.add("Sub", graph.add("Mul", x, np.float32(2)), np.float32(255))  # -255 to 255
    if network.config.architecture == "compact":
        x = _compact_features(graph, network, x)
    else:
        x = exact_layers(graph, network.encoder.trunk, Whole(x, 1 / 255, 255))
    x = graph.affine(x, network.encoder.head.weight, network.encoder.head.bias)
    size = network.latent_dim
    mu, logvar = graph.add("Split", x, np.array([size, size]), outputs=2, axis=1)
    logvar = graph.add("Clip", logvar, np.float32(-10), np.float32(10))
    sizes = {"images": network.image_shape, "mu": (size,), "logvar": (size,)}
    return graph.model({"mu": mu, "logvar": logvar}, sizes)


def _compact_features(graph: ExactGraph, network: VAE, levels: str) -> str:
    """What the head of a compact encoder gets, of levels from -255 to 255."""
    first, relu, *maps, flatten, linear, _ = network.encoder.trunk
    assert isinstance(linear, nn.Linear)
    x = exact_layers(graph, (first,), Whole(levels, 1 / 255, 255))
    wanted = relu(first(graph.values["images"] * 2 - 1))
    found = convolved(graph, as_maps(graph, x, wanted), as_convolutions(maps))
    x = graph.add("Reshape", found.name, np.array([0, -1]))
    sums, scales = (
        linear(flatten(found.wanted)),
        found.scales.repeat_interleave(found.wanted[0, 0].numel()),
    )
    return str(graph.add("Relu", graph.quantized_linear((x, scales), linear.weight, sums)))
