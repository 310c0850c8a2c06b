"""Quantises a published checkpoint: a new version that is portable, without training."""

import dataclasses
from pathlib import Path

import torch

from training.data.dataset import Dataset
from training.evaluation.evaluate import Effort, evaluate, reference_for
from training.evaluation.reference import Reference
from training.networks.checkpoint import load
from training.networks.files import CheckpointError
from training.networks.graph.network import with_graphs
from training.networks.vae import VAE
from training.release.fit_table import fit_table, stated_holdout, unseen_pictures
from training.release.gallery import Unmeasured
from training.release.portable.quantise import quantise
from training.release.release_files import Kept, write_release


def requantise(
    source: Path,
    target: Path,
    train: Dataset,
    test: Dataset,
    device: torch.device,
    measured: bool = True,
) -> Path:
    """Write ``source`` quantised as ``target``, with figures, pictures and card of what is served.

    Args:
        source: A checkpoint; its weights stay as they are.
        target: Of the new one; must not exist.
        train, test: The images that it was trained on.
        device: Where to measure.
        measured: False = without figures.

    Raises:
        CheckpointError: ``source`` is no checkpoint, cannot be quantised, or ``target`` exists.
        TrainingError: a file cannot be written.
    """
    if target.exists():
        raise CheckpointError(f"{target} exists; choose another name or folder")
    network, description = load(source)
    graphs = quantise(network)
    network = network.to(device)
    train, test = train.to(device), test.to(device)
    served, effort = with_graphs(network, graphs), Effort()
    real: Reference | Unmeasured = Unmeasured(train, test)
    fit = None
    if isinstance(served, VAE):
        fit = fit_table(served, unseen_pictures(train, test, stated_holdout(description.training)))
    figures = {}
    if measured:
        print(f"measuring {effort.samples:,} samples", flush=True)
        real = reference_for(train, test, device, effort)
        figures = evaluate(served, real, effort)
    description = dataclasses.replace(description, metrics=figures, fit=fit)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = [source.with_name(f"{source.stem}{end}") for end in ("-curves.png", "-film.webp")]
    write_release(target, network, description, graphs, real, effort, Kept(*beside))
    return target
