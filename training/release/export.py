"""Exports a network to ONNX, one graph for each operation, and measures how closely it matches
torch.

The CPU service runs these graphs. Before the export, batch norms are folded into the layers before
them, and x + conv(x) into the convolution by adding an identity kernel. That saves the shipped
generator about a tenth of its time.
"""

import copy
import dataclasses
import hashlib
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from training.data.dataset import Dataset
from training.networks.checkpoint import network_of, save
from training.networks.configs import Operation
from training.networks.files import CheckpointError, errors_naming, write_atomically
from training.networks.gan import Generator
from training.networks.golden import ROWS, golden_inputs, output_digest
from training.networks.graph.network import with_graphs
from training.networks.graph.onnx_file import check_graph, graph_path, portable_graphs
from training.networks.header import Description, Graph, read
from training.networks.vae import VAE
from training.release.fit_table import fit_table
from training.release.portable.folding import folded
from training.release.session import session_of

OPSET = 20
SAMPLES = 256  # golden samples of each operation
# Above these the export is refused. Engines add in different orders: differences of 1e-6 are usual,
# and change an 8-bit pixel by one level if it is near a rounding boundary.
MAX_DIFFERENCE = 1e-4  # as ``Graph.max_difference``
MAX_DIFFERING_PIXELS = 1e-3  # share, after rounding to 8 bits
MAX_MEAN_DIFFERENCE = 12.0  # of a portable graph, in levels


class _Operation(nn.Module):
    """One method of a network as a module, as the exporter needs it."""

    def __init__(self, network: Generator | VAE, operation: Operation) -> None:
        super().__init__()
        self.network = network
        self.operation = operation

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        result: Tensor | tuple[Tensor, Tensor] = getattr(self.network, self.operation)(*inputs)
        return result


def named_inputs(network: Generator | VAE, operation: Operation, count: int) -> dict[str, Tensor]:
    """Golden inputs by name."""
    batch, labels = golden_inputs(network.config, operation, count)
    inputs = {"images" if operation == "encode" else "z": torch.from_numpy(batch)}
    return inputs if labels is None else inputs | {"labels": torch.from_numpy(labels)}


def export_graph(network: Generator | VAE, operation: Operation) -> bytes:
    """One operation of a network in eval mode on the CPU as an ONNX model of any batch size.

    ``generate``: z (B, Z), and labels (B,) int64 of a conditional network -> pixels (B, C, H, W);
    ``decode``: z -> pixels; ``encode``: images (B, C, H, W) in [0, 1] -> mu and logvar (B, Z).

    Raises:
        ValueError: the network uses operators that ``training.networks.graph.onnx_file`` does not
        allow.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    if isinstance(network, Generator):
        network.trunk = folded(network.trunk)
    inputs = named_inputs(network, operation, 2)
    batch = torch.export.Dim("batch", min=1, max=2**16)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns about its own use of torch
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
    # Remove descriptions and paths of this machine, and unused functions.
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


def compare(
    network: Generator | VAE, operation: Operation, data: bytes, portable: bool = False
) -> Graph:
    """Compare ONNX Runtime's outputs for the golden inputs with torch's in floating point.

    Args:
        portable: Whether the graph is quantised: then more may differ, and it gets the golden
            digest of its outputs.

    Raises:
        CheckpointError: they differ by more than MAX_DIFFERENCE or MAX_DIFFERING_PIXELS; of a
            portable graph, on average by more than MAX_MEAN_DIFFERENCE.
    """
    inputs = named_inputs(network, operation, SAMPLES)
    session = session_of(data)
    onnx_outputs = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    with torch.no_grad():
        result = _Operation(network, operation)(*inputs.values())
    torch_outputs = [t.numpy() for t in (result if isinstance(result, tuple) else (result,))]
    difference, differing, means = 0.0, 0.0, []
    for given, other in zip(onnx_outputs, torch_outputs, strict=True):
        one = given / np.float32(255) if given.dtype == np.uint8 else given
        means.append(float(np.abs(one - other).mean()))
        size = np.maximum(np.abs(other), 1)
        difference = max(difference, float((np.abs(one - other) / size).max()))
        if operation != "encode":
            differing = float((np.rint(one * 255) != np.rint(other * 255)).mean())
    mean = max(means) * (1 if operation == "encode" else 255)
    if portable:
        if not mean <= MAX_MEAN_DIFFERENCE:
            raise CheckpointError(
                f"the quantised {operation} differs from the network by {mean:.1f} on average (at "
                f"most {MAX_MEAN_DIFFERENCE:.0f}); publish it in floating point, with --float"
            )
        golden = output_digest([output[:ROWS] for output in onnx_outputs])
        digest = hashlib.sha256(data).hexdigest()
        return Graph(digest, SAMPLES, difference, differing, mean, golden)
    # Written so that NaN fails too.
    if not (difference <= MAX_DIFFERENCE and differing <= MAX_DIFFERING_PIXELS):
        raise CheckpointError(
            f"the exported {operation} differs from torch by {difference:.1e} (at most "
            f"{MAX_DIFFERENCE:.0e}) and in {differing:.1e} of the pixels (at most "
            f"{MAX_DIFFERING_PIXELS:.0e})"
        )
    return Graph(hashlib.sha256(data).hexdigest(), SAMPLES, difference, differing, mean)


def save_with_graphs(
    path: Path,
    network: Generator | VAE,
    description: Description,
    portable: Mapping[Operation, bytes] | None = None,
) -> str:
    """Write a checkpoint and its graphs; the checkpoint last, as it refers to them.

    Args:
        path: Of the checkpoint.
        network: In eval mode; exported on the CPU.
        description: Its graphs are filled in.
        portable: From ``quantise``, of the same network; None = export it in floating point.

    Returns:
        The checkpoint's digest.

    Raises:
        CheckpointError, ValueError: the network cannot be exported, or differs too much from torch.
    """
    on_cpu = copy.deepcopy(network).cpu().eval()
    data = portable or {name: export_graph(on_cpu, name) for name in description.operations}
    graphs = {name: compare(on_cpu, name, graph, bool(portable)) for name, graph in data.items()}
    for name, graph in data.items():
        write_atomically(graph_path(path, name), graph)
    return save(path, network, dataclasses.replace(description, graphs=graphs))


def export_checkpoint(
    source: Path, folder: Path, load_pictures: Callable[[Description], Dataset] | None = None
) -> Path:
    """Copy a checkpoint to ``folder`` and export its graphs; those of a portable one stay.

    Args:
        load_pictures: Returns pictures that it was not trained on. A VAE without a fit table gets
            one of them.

    Raises:
        DataError: of ``load_pictures``.
        CheckpointError: ``source`` is not a checkpoint, cannot be exported, or exists in
        ``folder``.
    """
    target = folder / source.name
    if target.exists():
        raise CheckpointError(f"{target} exists; choose another folder")
    contents = read(source)
    description = contents.description
    with errors_naming(source):
        network = network_of(contents)
        portable = portable_graphs(source, description)
        served = with_graphs(network, portable)
        if load_pictures and isinstance(served, VAE) and description.fit is None:
            fit = fit_table(served, load_pictures(description))
            description = dataclasses.replace(description, fit=fit)
        save_with_graphs(target, network, description, portable or None)
    return target
