"""Do samples repeat training images? Figures from the distances to the nearest training images."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from training.evaluation import measures

# A sample is memorised if it is less than this times as far from the nearest training image as from
# the second nearest. Yoon et al. 2023, "Diffusion Probabilistic Models Generalize when They Fail to
# Memorize".
MEMORISED_RATIO = 1 / 3
ALIKE = 16  # near-identical training images (bursts, saved copies) that are skipped, at most


class TrainingNeighbours(NamedTuple):
    """Distances of N images to their nearest training images, in pixels."""

    distances: Tensor  # (N, at most ALIKE + 1), ascending
    apart: Tensor  # the same shape: of each of these neighbours to the first one


def training_neighbours(points: Tensor, train: Tensor) -> TrainingNeighbours:
    """Distances of images to their nearest training images, both as points of pixels (N, D)."""
    k = min(ALIKE + 1, len(train))
    return TrainingNeighbours(*measures.nearest_of_alike(points, train, k))


def memorisation_figures(
    neighbours: TrainingNeighbours, test: TrainingNeighbours
) -> dict[str, Any]:
    """Figures of samples, beside the test images that have the same distances to compare with.

    Args:
        neighbours: Of the samples.
        test: Of the test images.
    """
    nearest, real = neighbours.distances[:, 0], test.distances[:, 0]
    memorised = _memorised_share(neighbours, float(real.median()))
    return {"memorised": memorised} | closeness("nearest_pixels", nearest, real)


def closeness(name: str, distances: Tensor, real: Tensor) -> dict[str, Any]:
    """How near samples come to training images: ``<name>_ratio`` and ``<name>_closer``.

    Args:
        distances: Of samples to their nearest training images, (N,).
        real: Of test images to theirs, (M,).
    """
    return {
        # Of the medians.
        f"{name}_ratio": measures.ratio(float(distances.median()), float(real.median())),
        # Share of distances below the 1 % quantile of the real ones.
        f"{name}_closer": float((distances < real.quantile(0.01)).double().mean()),
    }


def _memorised_share(neighbours: TrainingNeighbours, usual_distance: float) -> float:
    """Share of images less than a third as far from the nearest training image as from the next
    different one.

    Different: more than a third of ``usual_distance``, that of test images to their nearest, away
    from the first. Otherwise copies of a picture that occurs twice would be missed.
    """
    different = neighbours.apart >= MEMORISED_RATIO * usual_distance
    # The last neighbour counts as different: more alike ones than ALIKE are not looked at.
    different[:, 0], different[:, -1] = False, True
    following = neighbours.distances.where(different, torch.inf).amin(dim=1)
    return float((neighbours.distances[:, 0] < MEMORISED_RATIO * following).double().mean())
