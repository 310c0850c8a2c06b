"""Checkpoints as torch networks: save one, or load one that ``header`` has read and checked."""

import dataclasses
import json
from pathlib import Path

import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as serialise_tensors
from torch import Tensor

from training.networks import build
from training.networks.files import errors_naming, write_atomically
from training.networks.gan import Generator
from training.networks.graph.config import GraphConfig
from training.networks.header import FORMAT, Contents, Description, digest_of, read, split
from training.networks.vae import VAE


def save(path: Path, network: Generator | VAE | None, description: Description) -> str:
    """Write a checkpoint, whole or not at all. Returns the digest.

    Args:
        network: None = the kind is ``graph``, whose weights are in the graphs.
    """
    graphs = {name: dataclasses.asdict(graph) for name, graph in description.graphs.items()}
    metadata = {
        "format": FORMAT,
        "kind": description.kind,
        "network": json.dumps(dataclasses.asdict(description.network)),
        "labels": json.dumps(description.labels),
        "data": json.dumps(description.data),
        "training": json.dumps(description.training),
        "metrics": json.dumps(description.metrics),
        "graphs": json.dumps(graphs),
    }
    if description.fit:
        metadata["fit"] = json.dumps(dataclasses.asdict(description.fit))
    state = {} if network is None else network.state_dict()
    tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    # Serialised twice: the digest covers the header, and then becomes a part of it.
    metadata["digest"] = digest_of(*split(serialise_tensors(tensors, metadata)))
    write_atomically(path, serialise_tensors(tensors, metadata))
    return metadata["digest"]


def _build(description: Description, tensors: dict[str, Tensor]) -> Generator | VAE:
    config = description.network
    if isinstance(config, GraphConfig):
        raise ValueError("it has graphs alone, which ONNX Runtime runs; torch has no network of it")
    # Nothing is allocated twice. ``header.read`` has compared names, types and shapes.
    with torch.device("meta"):
        network = build(description.kind, config)
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def network_of(contents: Contents) -> Generator | VAE:
    """The network of a checkpoint that has been read, in eval mode on the CPU.

    Raises:
        ValueError: the tensors are not those of the network that the header describes.
    """
    return _build(contents.description, parse_tensors(contents.data))


def load(path: Path) -> tuple[Generator | VAE, Description]:
    """Read one checkpoint, check it, and build its network in eval mode on the CPU.

    Raises:
        CheckpointError: as ``header.read``, or the tensors do not fit. The message names the file
            and the reason.
    """
    contents = read(path)
    with errors_naming(path):
        return network_of(contents), contents.description
