"""Exports a network to ONNX, one graph an operation, and measures how well it repeats torch.

The graphs are what the CPU service runs. What evaluation allows is folded before the export: batch
norms into the layers before them, and x + conv(x) into the convolution (an identity kernel added to
its own), which together save the shipped generator about a tenth of its time (docs/log.md).
"""

import copy
import dataclasses
import hashlib
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from training.networks.checkpoint import network_of, save
from training.networks.configs import Operation
from training.networks.files import CheckpointError, errors_naming, write_atomically
from training.networks.gan import Generator, ResidualBlock
from training.networks.graphs import check_graph, graph_path
from training.networks.header import Description, Graph, read
from training.networks.vae import VAE

OPSET = 20
SAMPLES = 256  # golden samples an operation
GOLDEN_SEED = 2024
# Above these the export is refused. Two engines sum in another order: differences of 1e-6 are
# usual, and turn a pixel by one of its 255 levels where it lay between two.
MAX_DIFFERENCE = 1e-4  # of a pixel in 0 to 1, or of an encoding's number over its own size
MAX_DIFFERING_PIXELS = 1e-3  # share, after rounding to 8 bits


class _Operation(nn.Module):
    """One method of a network as a module, which is what the exporter takes."""

    def __init__(self, network: Generator | VAE, operation: Operation) -> None:
        super().__init__()
        self.network = network
        self.operation = operation

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        result: Tensor | tuple[Tensor, Tensor] = getattr(self.network, self.operation)(*inputs)
        return result


class _FoldedResidual(nn.Module):
    """``ResidualBlock`` in evaluation as one convolution: relu(conv(x))."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.conv = fuse_conv_bn_eval(block.conv, block.norm)
        channels, middle = self.conv.out_channels, self.conv.kernel_size[0] // 2
        with torch.no_grad():
            self.conv.weight[range(channels), range(channels), middle, middle] += 1

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


def _folded(layers: nn.Sequential) -> nn.Sequential:
    """The same function of a sequence in eval mode with fewer layers."""
    found: list[nn.Module] = []
    for layer in layers:
        last = found[-1] if found else None
        if isinstance(layer, ResidualBlock):
            found.append(_FoldedResidual(layer))
        elif isinstance(layer, nn.BatchNorm2d) and isinstance(last, nn.Conv2d | nn.ConvTranspose2d):
            transposed = isinstance(last, nn.ConvTranspose2d)
            found[-1] = fuse_conv_bn_eval(last, layer, transpose=transposed)
        elif isinstance(layer, nn.BatchNorm2d) and isinstance(last, nn.Unflatten):
            # (B, C * H * W) as maps: the norm's numbers are one a map, the layer's one a pixel.
            linear = found[-2]
            assert isinstance(linear, nn.Linear)
            found[-2] = fuse_linear_bn_eval(linear, _spread(layer, linear.out_features))
        else:
            found.append(layer)
    return nn.Sequential(*found)


def _spread(norm: nn.BatchNorm2d, features: int) -> nn.BatchNorm1d:
    """The norm of C maps as one of all their pixels."""
    wide = nn.BatchNorm1d(features, norm.eps).eval()
    for name in ("weight", "bias", "running_mean", "running_var"):
        numbers: Tensor = getattr(norm, name)
        getattr(wide, name).data = numbers.detach().repeat_interleave(features // len(numbers))
    return wide


def _inputs(network: Generator | VAE, operation: Operation, count: int) -> dict[str, Tensor]:
    """Golden inputs by name: z and labels in turn, or images of noise."""
    random = torch.Generator().manual_seed(GOLDEN_SEED)
    if operation == "encode":
        levels = torch.randint(0, 256, (count, *network.image_shape), generator=random)
        return {"images": levels / 255}
    inputs = {"z": torch.randn(count, network.latent_dim, generator=random)}
    if operation == "generate" and network.num_classes:
        inputs["labels"] = torch.arange(count) % network.num_classes
    return inputs


def export_graph(network: Generator | VAE, operation: Operation) -> bytes:
    """One operation of a network in eval mode on the CPU as an ONNX model of any batch size.

    ``generate``: z (B, Z), and labels (B,) int64 of a conditional network -> pixels (B, C, H, W);
    ``decode``: z -> pixels; ``encode``: images (B, C, H, W) in [0, 1] -> mu and logvar (B, Z).

    Raises:
        ValueError: the network is made of what ``training.networks.graphs`` does not allow.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    if isinstance(network, Generator):
        network.trunk = _folded(network.trunk)
    inputs = _inputs(network, operation, 2)
    batch = torch.export.Dim("batch", min=1, max=2**16)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's, of its own use of torch
        program = torch.onnx.export(
            _Operation(network, operation),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=["mu", "logvar"] if operation == "encode" else ["pixels"],
            dynamic_shapes=(tuple({0: batch} for _ in inputs),),  # of *inputs
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    # Descriptions and paths of the machine it was made on; and what this network never asks for.
    del model.metadata_props[:], model.graph.metadata_props[:], model.functions[:]
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for tensor in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        tensor.ClearField("doc_string")
        del tensor.metadata_props[:]
    for value in model.graph.value_info:
        del value.metadata_props[:]
    model.graph.ClearField("doc_string")
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    check_graph(data)
    return data


def compare(network: Generator | VAE, operation: Operation, data: bytes) -> Graph:
    """How far ONNX Runtime's outputs of the golden inputs are from torch's.

    Raises:
        CheckpointError: further than MAX_DIFFERENCE or MAX_DIFFERING_PIXELS allow.
    """
    inputs = _inputs(network, operation, SAMPLES)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    ours = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    with torch.no_grad():
        result = _Operation(network, operation)(*inputs.values())
    theirs = [t.numpy() for t in (result if isinstance(result, tuple) else (result,))]
    difference, differing = 0.0, 0.0
    for one, other in zip(ours, theirs, strict=True):
        size = np.maximum(np.abs(other), 1)
        difference = max(difference, float((np.abs(one - other) / size).max()))
        if operation != "encode":
            differing = float((np.rint(one * 255) != np.rint(other * 255)).mean())
    # Written so that a NaN fails it too.
    if not (difference <= MAX_DIFFERENCE and differing <= MAX_DIFFERING_PIXELS):
        raise CheckpointError(
            f"the exported {operation} differs from torch by {difference:.1e} (at most "
            f"{MAX_DIFFERENCE:.0e}) and in {differing:.1e} of the pixels (at most "
            f"{MAX_DIFFERING_PIXELS:.0e})"
        )
    return Graph(hashlib.sha256(data).hexdigest(), SAMPLES, difference, differing)


def save_with_graphs(path: Path, network: Generator | VAE, description: Description) -> str:
    """Write a checkpoint and its graphs, the checkpoint last: until then nothing refers to them.

    Args:
        path: Of the checkpoint.
        network: In eval mode; exported on the CPU.
        description: Without graphs: they are filled in.

    Returns:
        The checkpoint's digest.

    Raises:
        CheckpointError, ValueError: the network cannot be exported, or not exactly enough.
    """
    on_cpu = copy.deepcopy(network).cpu().eval()
    data = {name: export_graph(on_cpu, name) for name in description.operations}
    graphs = {name: compare(on_cpu, name, graph) for name, graph in data.items()}
    for name, graph in data.items():
        write_atomically(graph_path(path, name), graph)
    return save(path, network, dataclasses.replace(description, graphs=graphs))


def export_checkpoint(source: Path, folder: Path) -> Path:
    """Copy a checkpoint to ``folder`` with its graphs, whether or not it had some.

    Raises:
        CheckpointError: ``source`` is not a checkpoint, cannot be exported, or is there already.
    """
    target = folder / source.name
    if target.exists():
        raise CheckpointError(f"{target} exists; choose another folder")
    contents = read(source)
    with errors_naming(source):
        save_with_graphs(target, network_of(contents), contents.description)
    return target
