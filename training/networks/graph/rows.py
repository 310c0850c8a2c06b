"""Latents, labels and pixels as a graph's header says that the graph takes and returns them."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from training.networks.configs import Operation
from training.networks.graph.config import RANGES, GraphConfig, Pixels

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Feed = dict[str, NDArray[np.generic]]


def output_names(config: GraphConfig, operation: Operation) -> list[str]:
    """The outputs of a graph that are used, in order."""
    return list(config.posterior) if operation == "encode" else [config.output.name]


def decoder_feed(config: GraphConfig, z: Floats, labels: Labels | None) -> Feed:
    """The inputs of ``generate`` or ``decode`` for latents (B, Z) and class indices (B,)."""
    feed: Feed = {}
    start = 0
    for part in config.noise:
        rows = z[:, start : start + part.size].reshape(len(z), *part.shape)
        feed[part.name] = np.ascontiguousarray(rows)
        start += part.size
    return feed | _label_feed(config, labels)


def encoder_feed(
    config: GraphConfig, images: Floats, labels: Labels | None, names: Collection[str]
) -> Feed:
    """The inputs of ``encode`` for images (B, C, H, W) in [0, 1] and class indices (B,).

    Args:
        names: Of its graph's inputs. It may take the label that ``decode`` takes, by its name.
    """
    assert config.input is not None
    feed: Feed = {config.input.name: to_graph(images, config.input)}
    if config.label is not None and config.label.name in names:
        feed |= _label_feed(config, labels)
    return feed


def _label_feed(config: GraphConfig, labels: Labels | None) -> Feed:
    if config.label is None or labels is None:
        return {}
    if config.label.form == "index":
        return {config.label.name: labels}
    one_hot = np.zeros((len(labels), config.num_classes), dtype=np.float32)
    one_hot[np.arange(len(labels)), labels] = 1
    return {config.label.name: one_hot}


def to_graph(images: Floats, pixels: Pixels) -> Floats:
    """Images (B, C, H, W) in [0, 1] as a graph's input."""
    low, high = RANGES[pixels.range]
    if (low, high) != (0, 1):
        images = images * np.float32(high - low) + np.float32(low)
    if pixels.layout == "NHWC":
        images = images.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images)


def from_graph(output: Floats, config: GraphConfig, count: int) -> Floats:
    """A graph's images as (B, C, H, W) in [0, 1]; rows that are not finite are NaN.

    Raises:
        ValueError: they are of another shape.
    """
    channels, height, width = config.image_shape
    nhwc = config.output.layout == "NHWC"
    wanted = (count, height, width, channels) if nhwc else (count, channels, height, width)
    if output.shape != wanted:
        raise ValueError(
            f"output {config.output.name} has the shape {list(output.shape)}; its header says "
            f"{list(wanted)}"
        )
    low, high = RANGES[config.output.range]
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.add.reduce(output, axis=None, dtype=np.float64)
        finite = None if np.isfinite(total) else np.isfinite(output).reshape(count, -1).all(axis=1)
        if (low, high) != (0, 1):
            output = (output - np.float32(low)) * np.float32(1 / (high - low))
        output = np.clip(output, 0, 1)
    if finite is not None:
        output[~finite] = np.nan  # clipping would hide what is infinite
    return np.ascontiguousarray(output.transpose(0, 3, 1, 2)) if nhwc else output
