"""Tiny ONNX graphs with random weights, and checkpoints of kind ``graph`` that hold them."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.networks.checkpoint import save
from training.networks.configs import GRAPH, Operation
from training.networks.graph.config import (
    RANGES,
    GraphConfig,
    LabelInput,
    Noise,
    Pixels,
)
from training.networks.graph.onnx_file import graph_path
from training.networks.header import Description, Graph

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def config(**changes: Any) -> GraphConfig:
    """An unconditional grey generator of 4 x 4 pixels, changed."""
    fields: dict[str, Any] = {
        "architecture": "graph",
        "graphs": ("generate",),
        "noise": (Noise("z", (6,)),),
        "label": None,
        "num_classes": 0,
        "image_shape": (1, 4, 4),
        "output": Pixels("pixels", "NCHW", "-1..1"),
        "input": None,
        "posterior": (),
        "truncation": True,
        "mean_latent": (),
        "max_batch": 8,
    }
    return GraphConfig(**(fields | changes))


def autoencoder(posterior: tuple[str, ...] = ("mu", "logvar"), **changes: Any) -> GraphConfig:
    """A VAE, or with one output an autoencoder."""
    return config(
        graphs=("decode", "encode"),
        input=Pixels("images", "NCHW", "0..1"),
        posterior=posterior,
        **changes,
    )


LABEL = LabelInput("label", "index")

# One for each feature of the header.
FEATURES: dict[str, GraphConfig] = {
    "plain": config(),
    "deep-latent": config(noise=(Noise("z", (3, 2, 1)),), output=Pixels("out", "NCHW", "0..1")),
    "uniform": config(noise=(Noise("z", (5,), "uniform"),)),
    "truncated": config(noise=(Noise("z", (5,), "truncated_normal"),)),
    "sphere": config(noise=(Noise("z", (5,), "sphere"),), truncation=False),
    "codes": config(
        noise=(
            Noise("z", (5,)),
            Noise("code", (3, 4), "categorical"),
            Noise("angle", (2,), "uniform"),
            Noise("layer.0", (1, 4, 4)),
        ),
        mean_latent=(0.5, -0.5, 0.25, 0.0, 1.0),
    ),
    "indexed": config(label=LABEL, num_classes=3),
    "one-hot": config(label=LabelInput("y", "one_hot"), num_classes=3, noise=(Noise("z", (4,)),)),
    "rgba": config(image_shape=(4, 5, 3), output=Pixels("pixels", "NHWC", "0..255")),
    "wide": config(image_shape=(3, 3, 7), output=Pixels("pixels", "NHWC", "-1..1")),
    "decoder": config(graphs=("decode",)),
    "vae": autoencoder(image_shape=(3, 6, 6)),
    "autoencoder": autoencoder(("latent",), noise=(Noise("z", (2, 2, 2)),)),
    "conditional-vae": autoencoder(label=LABEL, num_classes=3),
    "conditional-decoder": autoencoder(label=LabelInput("y", "one_hot"), num_classes=3),
    "rgba-autoencoder": autoencoder(("latent",), image_shape=(4, 6, 6)),
}


def model(
    nodes: Iterable[Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any], weights: Any
) -> bytes:
    """An ONNX file.

    Args:
        nodes: Its nodes.
        inputs: Name -> (type, shape of a row).
        outputs: The same; a shape may be None.
        weights: Name -> array.
    """

    def values(ends: Mapping[str, Any]) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, kind, None if row is None else ["batch", *row])
            for name, (kind, row) in ends.items()
        ]

    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(list(nodes), "graph", values(inputs), values(outputs), tensors)
    opset = [helper.make_opsetid("", 20)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=10)
    data: bytes = made.SerializeToString(deterministic=True)
    return data


def of_a_million_nodes() -> bytes:
    """A file of the bytes of one node, repeated: building a million objects would take longer than
    refusing them."""
    node: bytes = helper.make_node("Neg", ["z"], ["z"]).SerializeToString()
    graph = (b"\x0a" + bytes([len(node)]) + node) * 1_000_000
    opset: bytes = helper.make_opsetid("", 20).SerializeToString()
    length = len(graph)
    varint = b""
    while length >= 0x80:
        varint, length = varint + bytes([length & 0x7F | 0x80]), length >> 7
    return b"\x3a" + varint + bytes([length]) + graph + b"\x42" + bytes([len(opset)]) + opset


def decoder_graph(settings: GraphConfig, seed: int = 0) -> bytes:
    """Pixels that are a squashed random linear function of the noise and the label."""
    random = np.random.default_rng(seed)
    channels, height, width = settings.image_shape
    pixels = channels * height * width
    weights: dict[str, Any] = {"flat": np.array([0, -1], np.int64)}
    inputs: dict[str, Any] = {}
    nodes, parts = [], []
    for index, part in enumerate(settings.noise):
        inputs[part.name] = (FLOAT, part.shape)
        nodes.append(helper.make_node("Reshape", [part.name, "flat"], [f"flat{index}"]))
        parts.append(f"flat{index}")
    size = settings.latent_dim
    if settings.label is not None:
        one_hot = settings.label.form == "one_hot"
        inputs[settings.label.name] = (FLOAT, (settings.num_classes,)) if one_hot else (INT64, ())
        table = random.normal(size=(settings.num_classes, 3)).astype(np.float32)
        weights["table"] = table
        kind = "MatMul" if one_hot else "Gather"
        ends = [settings.label.name, "table"]
        nodes.append(helper.make_node(kind, ends if one_hot else ends[::-1], ["embedded"]))
        parts.append("embedded")
        size += 3
    weights["matrix"] = random.normal(size=(size, pixels)).astype(np.float32)
    nhwc = settings.output.layout == "NHWC"
    row = (height, width, channels) if nhwc else (channels, height, width)
    weights["shape"] = np.array([0, *row], np.int64)
    low, high = RANGES[settings.output.range]
    weights["factor"] = np.array((high - low) / 2, np.float32)
    weights["middle"] = np.array((high + low) / 2, np.float32)
    nodes += [
        helper.make_node("Concat", parts, ["all"], axis=1),
        helper.make_node("MatMul", ["all", "matrix"], ["linear"]),
        helper.make_node("Tanh", ["linear"], ["squashed"]),
        helper.make_node("Mul", ["squashed", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "middle"], ["moved"]),
        helper.make_node("Reshape", ["moved", "shape"], [settings.output.name]),
    ]
    return model(nodes, inputs, {settings.output.name: (FLOAT, row)}, weights)


def encoder_graph(settings: GraphConfig, seed: int = 1) -> bytes:
    """Each output a random linear function of the pixels, in the latent's shape."""
    assert settings.input is not None
    random = np.random.default_rng(seed)
    row = settings.noise[0].shape
    weights: dict[str, Any] = {
        "flat": np.array([0, -1], np.int64),
        "shape": np.array([0, *row], np.int64),
    }
    nodes = [helper.make_node("Reshape", [settings.input.name, "flat"], ["pixels_in_a_row"])]
    pixels = math.prod(settings.image_shape)
    labels: dict[str, Any] = {}
    if settings.label == LABEL:  # else it takes none, though the decoder does
        labels = {LABEL.name: (INT64, ())}
        weights["table"] = random.normal(size=(settings.num_classes, pixels)).astype(np.float32)
        nodes += [
            helper.make_node("Gather", ["table", LABEL.name], ["embedded"]),
            helper.make_node("Add", ["pixels_in_a_row", "embedded"], ["both"]),
        ]
    flat = "both" if labels else "pixels_in_a_row"
    for name in settings.posterior:
        size = (pixels, settings.latent_dim)
        weights[f"{name}.matrix"] = (random.normal(size=size) / pixels).astype(np.float32)
        nodes += [
            helper.make_node("MatMul", [flat, f"{name}.matrix"], [f"{name}.flat"]),
            helper.make_node("Reshape", [f"{name}.flat", "shape"], [name]),
        ]
    channels, height, width = settings.image_shape
    nhwc = settings.input.layout == "NHWC"
    image = (height, width, channels) if nhwc else (channels, height, width)
    outputs = dict.fromkeys(settings.posterior, (FLOAT, row))
    return model(nodes, {settings.input.name: (FLOAT, image)} | labels, outputs, weights)


def graphs_of(settings: GraphConfig) -> dict[Operation, bytes]:
    """The graphs of a config."""
    return {
        name: encoder_graph(settings) if name == "encode" else decoder_graph(settings)
        for name in settings.graphs
    }


def write(
    path: Path, settings: GraphConfig, graphs: Mapping[Operation, bytes] | None = None, **data: Any
) -> Path:
    """A checkpoint at ``path``, with its graphs beside it.

    Args:
        graphs: Instead of those of the config.
        data: Of the header.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files = graphs_of(settings) if graphs is None else graphs
    for operation, content in files.items():
        graph_path(path, operation).write_bytes(content)
    described = {
        operation: Graph(hashlib.sha256(content).hexdigest(), 0, 0.0, 0.0)
        for operation, content in files.items()
    }
    labels = tuple(f"class {i}" for i in range(settings.num_classes))
    save(path, None, Description(GRAPH, settings, labels, data=data, graphs=described))
    return path


def checked(data: bytes) -> bytes:
    """An ONNX file that onnx itself finds valid."""
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    return data


def write_features(folder: Path) -> Path:
    """A store with a checkpoint for each of FEATURES."""
    for name, settings in FEATURES.items():
        write(folder / f"{name}.safetensors", settings, source="elsewhere")
    return folder
