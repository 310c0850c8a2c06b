"""Measures the fit table of a VAE on pictures that it was not trained on."""

from typing import Any

import torch

from training.data.dataset import Dataset, to_pixels
from training.loops.heldout import split
from training.networks.fit import FitTable
from training.networks.vae import VAE

FEW = 100  # pictures; with fewer a percentile is not even one of them
_BATCH = 500


def unseen_pictures(train: Dataset, test: Dataset, holdout_fraction: float) -> Dataset:
    """The training pictures that a run held out; where those are few, the test pictures.

    Args:
        holdout_fraction: Of the run, ``VaeRun.holdout_fraction``.
    """
    held_out = split(train, holdout_fraction)[1] if holdout_fraction else None
    return held_out if held_out and len(held_out) >= FEW else test


@torch.no_grad()
def fit_table(network: VAE, pictures: Dataset) -> FitTable:
    """The table of ``pictures``: of what ``network``, in eval mode, makes of each."""
    device = next(network.parameters()).device
    parts: list[tuple[torch.Tensor, ...]] = []
    for levels in pictures.images.split(_BATCH):
        images = to_pixels(levels.to(device))
        mu, _ = network.encode(images)
        parts.append((images, network.decode(mu), mu))
    return FitTable.of(*(torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True)))


def stated_holdout(training: dict[str, Any]) -> float:
    """``holdout_fraction`` of the run that a checkpoint's header describes; 0 = it states none."""
    run = training.get("run")
    stated = run.get("holdout_fraction") if isinstance(run, dict) else None
    return stated if isinstance(stated, float) and 0 <= stated < 1 else 0.0
