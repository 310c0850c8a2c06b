"""The tensors that a checkpoint of a network has: names, types and shapes, without torch.

torch refuses a checkpoint whose tensors are not its network's. A server that runs exported graphs
never builds the network, and is to refuse the same files. tests/training/networks/test_tensors.py
compares this with the networks themselves.
"""

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
    a, b = config.channels
    start = _weights("0", (a * (config.image_size // 4) ** 2, inputs)) | _norm("2", a)
    if config.architecture == "dcgan":
        middle = _weights("4", (a, b, 4, 4)) | _norm("5", b)
        return start | middle | _weights("7", (b, images, 4, 4), images)
    first = _weights("4.conv", (a, a, 3, 3)) | _norm("4.norm", a)
    middle = _weights("6", (b, a, 3, 3)) | _norm("7", b)
    second = _weights("9.conv", (b, b, 3, 3)) | _norm("9.norm", b)
    return start | first | middle | second | _conv("10", b, 4 * images)


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
    (a, b), (at_half, at_quarter) = config.channels, config.blocks
    tensors = _conv("0", images, a, side=4) | _blocks(1, a, at_half)
    tensors |= _conv(str(2 + at_half), a, b, side=4) | _blocks(3 + at_half, b, at_quarter)
    last = 5 + at_half + at_quarter
    tensors |= _linear(str(last), b * (config.image_size // 4) ** 2, config.hidden)
    return tensors, config.hidden


def _decoder(config: VaeConfig) -> Tensors:
    if config.architecture == "dense":
        return _dense(
            (config.latent_dim, *reversed(config.channels), math.prod(config.image_shape))
        )
    (a, b), (at_half, at_quarter) = config.channels, config.blocks
    tensors = _linear("0", config.latent_dim, config.hidden)
    tensors |= _linear("2", config.hidden, b * (config.image_size // 4) ** 2)
    tensors |= _blocks(4, b, at_quarter)
    tensors |= _conv(str(5 + at_quarter), b, 4 * a) | _blocks(7 + at_quarter, a, at_half)
    return tensors | _conv(str(8 + at_quarter + at_half), a, 4 * config.image_channels)


def _blocks(first: int, channels: int, count: int) -> Tensors:
    tensors: Tensors = {}
    for place in range(first, first + count):
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
