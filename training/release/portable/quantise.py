"""Quantises a network: one portable graph an operation, which gives the same bytes everywhere.

Convolutions of generators with ReLUs are integer (bytes by 7-bit weights, 32-bit sums): less than
half the cost of floating point. Their weights are rounded with regard to each other
(``rounding``). Other layers keep whole numbers of about ten bits in float32
(``ExactGraph.affine``), as nothing but ReLU is free in 8 bits. The last sum is looked up in a table
of levels. It is fitted after quantisation, so that the histogram of the levels is that of the
network in floating point.

Needs no images: ranges are calibrated on samples of the network itself.
"""

import copy

import numpy as np
import torch
from torch import Tensor

from training.networks.configs import Operation
from training.networks.gan import Generator, stretched_tanh
from training.networks.vae import VAE
from training.release.portable.exact_graph import ExactGraph
from training.release.portable.generators import generator_sums
from training.release.portable.layers import Sums, noise_for
from training.release.portable.vaes import decoder_sums, encoder_model
from training.release.session import session_of
from training.release.tone_curve import level_crossings

CALIBRATION = 512  # samples by which ranges are chosen
TABLE = 8_192  # samples by which the table of levels is fitted
MOST_PIXELS = 6_500_000  # in all, of those samples
BATCH = 256


@torch.no_grad()
def quantise(network: Generator | VAE) -> dict[Operation, bytes]:
    """The graph of each operation as an ONNX model, any batch size.

    ``generate`` takes z (B, Z), and labels (B,) int64 of a conditional network, ``decode`` z; both
    give ``levels`` (B, C, H, W) uint8. ``encode`` takes images (B, C, H, W) in [0, 1], whose pixels
    are rounded to levels, and gives mu and logvar (B, Z).

    Args:
        network: In eval mode.

    Raises:
        ValueError: a layer has so many inputs that its sums may not be exact.
    """
    network = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    noise = noise_for(network, CALIBRATION)
    graph = ExactGraph(noise)
    if isinstance(network, Generator):
        sums = generator_sums(graph, network)
        return {"generate": _with_levels(graph, sums, network, stretched_tanh(sums.logits))}
    # What the encoder gives and gets, as far as that is known without images.
    decoder = ExactGraph({"z": network.prior(noise["z"])})
    parts = [(each, decoder_sums(each, network, each is graph)) for each in (graph, decoder)]
    generate, decode = (
        _with_levels(each, sums, network, sums.logits.sigmoid(), each is graph)
        for each, sums in parts
    )
    encode = encoder_model(network, network.generate(noise["z"]))
    return {"generate": generate, "decode": decode, "encode": encode}


def _with_levels(
    graph: ExactGraph, sums: Sums, network: Generator | VAE, values: Tensor, prior: bool = True
) -> bytes:
    """The finished model, after its table is fitted.

    Args:
        values: Of a pixel before the tone curve, for each of the sums.
        prior: False = the graph takes what a VAE's prior gives.
    """
    inputs = {name: () if name == "labels" else (network.latent_dim,) for name in graph.inputs}
    sizes = {**inputs, "index": network.image_shape, "levels": network.image_shape}
    session = session_of(graph.model({"index": sums.index}, sizes))
    noise = noise_for(network, min(TABLE, MOST_PIXELS // int(np.prod(network.image_shape))))
    counts, shares = np.zeros(sums.count, np.int64), torch.zeros(256)
    for part in zip(*(value.split(BATCH) for value in noise.values()), strict=True):
        pixels = network.generate(*part)
        if not prior:
            assert isinstance(network, VAE)
            part = (network.prior(part[0]),)
        feed = {name: value.numpy() for name, value in zip(noise, part, strict=True)}
        (index,) = session.run(None, feed)
        counts += np.bincount(index.ravel(), minlength=sums.count)
        shares += torch.bincount((pixels * 255).round().int().flatten(), minlength=256)
    sample = np.repeat(values.numpy(), counts)
    wanted = (shares.double() / shares.sum()).numpy()
    crossings = level_crossings(sample, wanted, isinstance(network, VAE))
    table = np.searchsorted(crossings, values.numpy(), side="left").astype(np.uint8)
    return graph.model({"levels": graph.add("Gather", table, sums.index)}, sizes)
