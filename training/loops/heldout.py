"""A cheap measurement at the end of an epoch: shows progress, and selects the best weights.

Published figures come from ``training.evaluation.evaluate``, on five times as many samples and on
the test images, which are not used here.
"""

import dataclasses
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.dataset import Dataset, epoch_order, to_pixels
from training.evaluation.evaluate import draw
from training.evaluation.judge import CACHE, judge_for, judge_path
from training.evaluation.judge_networks import ChoosingJudge
from training.evaluation.likelihood import binarised, elbo_terms, importance_weights
from training.evaluation.measures import class_shares, frechet_distance
from training.networks.gan import Generator
from training.networks.vae import VAE
from training.optim.losses import negative_bound

SAMPLES = 2000  # generated: half a second on a CPU
REAL = 10_000  # training images to compare with, at most
BATCH = 500
SEED = 90  # of the choice of images and the noise: equal in all runs, so that they compare


class Measure(Protocol):
    """A figure of a network in eval mode; lower is better."""

    name: str

    def __call__(self, network: nn.Module) -> float: ...


def pixel_features(images: Tensor) -> Tensor:
    """Means over a grid of 7 x 7 blocks, (N, C, H, W) -> (N, 49 C): a coarse image."""
    return F.adaptive_avg_pool2d(images, 7).flatten(1)


class FrechetToTraining:
    """Fréchet distance of samples to training images, for a generator.

    In the features of the data's choosing judge if it is shipped or cached (``frechet_judge``),
    else in ``pixel_features`` (``frechet_pixels``), which show no detail but need no training.
    """

    def __init__(self, data: Dataset, device: torch.device, cache: Path = CACHE) -> None:
        self.device = device
        if judge_path(ChoosingJudge, data, cache).exists():
            # Building a judge uses random numbers; a run's dropout must not depend on that.
            with torch.random.fork_rng(devices=[]):
                self.features = judge_for(ChoosingJudge, data, device, cache).features
            self.name = "frechet_judge"
        else:
            self.name, self.features = "frechet_pixels", pixel_features
        chosen = epoch_order(len(data), SEED, 0)[:REAL].to(data.images.device)
        images = data.images[chosen]
        self.real = self._featured(images.to(device))
        self.shares = class_shares(data.labels[chosen], len(data.class_names))

    @torch.no_grad()
    def _featured(self, images: Tensor) -> Tensor:
        """Features (N, D) of images, uint8 or pixels."""
        parts = (p if p.is_floating_point() else to_pixels(p) for p in images.split(BATCH))
        return torch.cat([self.features(part) for part in parts])

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> float:
        assert isinstance(network, Generator)
        images, _ = draw(network, SAMPLES, SEED, self.shares)
        return frechet_distance(self._featured(images), self.real)


class HeldOutBound:
    """Negative ELBO of held-out images, in nats per image, or a tighter bound of several draws.

    With the VAE's current prior, which is N(0, I) until it is fitted.

    Args:
        beta: Weight of the KL, as in training; only 1 is the ELBO.
        binarise: Use the images ``binarised``, with fixed seeds.
        draws: 1 = the negative ELBO; more = ``negative_bound``, with beta 1.
    """

    def __init__(
        self, held_out: Dataset, device: torch.device, beta: float, binarise: bool, draws: int
    ) -> None:
        self.name = "heldout_negative_elbo" if draws == 1 else "heldout_negative_bound"
        self.images = held_out.images.to(device)
        self.beta = beta
        self.binarise = binarise
        self.draws = draws

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> float:
        assert isinstance(network, VAE)
        total = 0.0
        for seed, part in enumerate(self.images.split(BATCH), SEED):
            images = binarised(to_pixels(part), seed) if self.binarise else to_pixels(part)
            if self.draws > 1:
                weights = importance_weights(network, images, self.draws, seed)
                total += float(negative_bound(weights).sum())
            else:
                recon, kl = elbo_terms(network, images, seed)
                total += float((recon + self.beta * kl).sum())
        return total / len(self.images)


def held_out_count(images: int, fraction: float) -> int:
    """Number of images that ``split`` holds out: rounded, at least one unless the fraction is 0.

    Raises:
        ValueError: that would be all of them.
    """
    count = max(1, round(images * fraction)) if fraction else 0
    if count >= images:
        raise ValueError(
            f"holdout_fraction is {fraction}, which keeps out all {images} images; use less"
        )
    return count


def split(data: Dataset, fraction: float) -> tuple[Dataset, Dataset]:
    """(training images, held-out images): a random choice, the same for every run on this data."""
    order = epoch_order(len(data), SEED, 1)
    count = held_out_count(len(data), fraction)
    held, kept = order[:count].sort().values, order[count:].sort().values
    return _subset(data, kept), _subset(data, held)


def _subset(data: Dataset, chosen: Tensor) -> Dataset:
    return dataclasses.replace(data, images=data.images[chosen], labels=data.labels[chosen])
