"""The tensors that a checkpoint of a network has: names, types and shapes, without torch.

torch refuses a checkpoint whose tensors are not its network's. A server that runs exported graphs
never builds the network, and is to refuse the same files. tests/training/networks/test_tensors.py
compares this with the networks themselves.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any

from training.networks.configs import Config, GanConfig, VaeConfig

Tensors = dict[str, tuple[str, tuple[int, ...]]]  # name -> safetensors' type, shape


def expected_tensors(config: Config) -> Tensors:
    """The tensors of a network of this config; none where the weights are in graphs alone."""
    if isinstance(config, GanConfig):
        return {f"trunk.{name}": tensor for name, tensor in _generator(config).items()}
    if isinstance(config, VaeConfig):
        return _vae(config)
    return {}


def check_tensors(header: Mapping[str, Any], config: Config) -> None:
    """Refuse tensors that are not those of the network.

    Args:
        header: Of a safetensors file.
        config: Of the network.

    Raises:
        ValueError: one is missing, of another type or shape, or there is one more.
    """
    found = {
        name: (entry["dtype"], tuple(entry["shape"]))
        for name, entry in header.items()
        if name != "__metadata__"
    }
    wanted = expected_tensors(config)
    if missing := sorted(wanted.keys() - found.keys()):
        raise ValueError(f"tensor {missing[0]} is missing ({len(missing)} in all)")
    if surplus := sorted(found.keys() - wanted.keys()):
        raise ValueError(f"tensor {surplus[0]} does not fit this network ({len(surplus)} in all)")
    for name, tensor in found.items():
        if tensor != wanted[name]:
            raise ValueError(f"tensor {name} is {tensor}, expected {wanted[name]}")


def _weights(name: str, shape: tuple[int, ...], bias: int = 0) -> Tensors:
    """Of a layer; ``bias``: its length, 0 = none."""
    tensors: Tensors = {f"{name}.weight": ("F32", shape)}
    if bias:
        tensors[f"{name}.bias"] = ("F32", (bias,))
    return tensors


def _linear(name: str, inputs: int, outputs: int) -> Tensors:
    return _weights(name, (outputs, inputs), outputs)


def _conv(name: str, inputs: int, outputs: int, side: int = 3) -> Tensors:
    return _weights(name, (outputs, inputs, side, side), outputs)


def _norm(name: str, channels: int) -> Tensors:
    return {
        **{f"{name}.{part}": ("F32", (channels,)) for part in ("weight", "bias")},
        **{f"{name}.running_{part}": ("F32", (channels,)) for part in ("mean", "var")},
        f"{name}.num_batches_tracked": ("I64", ()),
    }


def _generator(config: GanConfig) -> Tensors:
    inputs, images = config.latent_dim + config.num_classes, config.image_channels
    if config.architecture == "dense":
        widths = (inputs, *config.channels, math.prod(config.image_shape))
        return _dense(widths)
    first, *_ = widths = config.channels
    side = config.image_size >> len(widths)
    tensors = _weights("0", (first * side * side, inputs)) | _norm("2", first)
    place = 4  # of the next layer in the trunk
    if config.architecture == "compact":
        tensors |= _residual(place, first)
        place += 1
    for before, width in itertools.pairwise(widths):
        if config.architecture == "dcgan":
            tensors |= _weights(str(place), (before, width, 4, 4)) | _norm(str(place + 1), width)
            place += 3
        else:  # behind an upsampling
            tensors |= _weights(str(place + 1), (width, before, 3, 3))
            tensors |= _norm(str(place + 2), width) | _residual(place + 4, width)
            place += 5
    if config.architecture == "dcgan":
        return tensors | _weights(str(place), (widths[-1], images, 4, 4), images)
    return tensors | _conv(str(place), widths[-1], 4 * images)


def _residual(place: int, channels: int) -> Tensors:
    weights = _weights(f"{place}.conv", (channels, channels, 3, 3))
    return weights | _norm(f"{place}.norm", channels)


def _dense(widths: tuple[int, ...], first: int = 0) -> Tensors:
    """Linear layers with an activation behind each."""
    tensors: Tensors = {}
    for place in range(len(widths) - 1):
        tensors |= _linear(str(first + 2 * place), widths[place], widths[place + 1])
    return tensors


def _vae(config: VaeConfig) -> Tensors:
    encoder, features = _encoder(config)
    parts = {
        "encoder.trunk": encoder,
        "encoder": _linear("head", features, 2 * config.latent_dim),
        "decoder.trunk": _decoder(config),
        "prior": _prior(config),
    }
    return {
        f"{part}.{name}": tensor for part, inner in parts.items() for name, tensor in inner.items()
    }


def _encoder(config: VaeConfig) -> tuple[Tensors, int]:
    """Of the layers before the head, and how many numbers they give."""
    images = config.image_channels
    if config.architecture == "dense":
        widths = (images * config.image_size**2, *config.channels)
        return _dense(widths, first=1), config.channels[-1]
    tensors, place, before = Tensors(), 0, images
    for width, count in zip(config.channels, config.blocks, strict=True):
        tensors |= _conv(str(place), before, width, side=4) | _blocks(
            config, place + 1, width, count
        )
        place, before = place + 2 + count, width
    side = config.image_size >> len(config.channels)
    return tensors | _linear(str(place + 1), before * side * side, config.hidden), config.hidden


def _decoder(config: VaeConfig) -> Tensors:
    if config.architecture == "dense":
        return _dense(
            (config.latent_dim, *reversed(config.channels), math.prod(config.image_shape))
        )
    widths = config.channels[::-1]
    side = config.image_size >> len(widths)
    tensors = _linear("0", config.latent_dim, config.hidden)
    tensors |= _linear("2", config.hidden, widths[0] * side * side)
    place, after = 4, (*widths[1:], config.image_channels)
    for width, count, wanted in zip(widths, config.blocks[::-1], after, strict=True):
        tensors |= _blocks(config, place, width, count)
        tensors |= _conv(str(place + count + 1), width, 4 * wanted)
        place += count + 3
    return tensors


def _blocks(config: VaeConfig, first: int, channels: int, count: int) -> Tensors:
    """Of ``count`` blocks and an activation, which a compact VAE has in front of them."""
    tensors: Tensors = {}
    for place in range(first, first + count):
        if config.architecture == "compact":
            tensors |= _conv(f"{place + 1}.conv", channels, channels)
        else:
            tensors |= _conv(f"{place}.conv1", channels, channels)
            tensors |= _conv(f"{place}.conv2", channels, channels)
    return tensors


def _prior(config: VaeConfig) -> Tensors:
    size, hidden = config.latent_dim, config.prior_hidden
    kept = size // 2
    tensors: Tensors = {}
    for layer in range(config.prior_layers):
        tensors |= _linear(f"couplings.{layer}.layer1", kept, hidden)
        tensors |= _linear(f"couplings.{layer}.layer2", hidden, hidden)
        tensors |= _linear(f"couplings.{layer}.out", hidden, 2 * (size - kept))
        if config.prior_mixing == "linear":
            tensors |= _weights(f"mixings.{layer}", (size, size))
    return tensors
