"""Do samples repeat training images? Figures from the distances to the nearest training images."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from training.evaluation import measures
from training.evaluation.judge import JudgedImages

# A sample is memorised if it is less than this times as far from the nearest training image as from
# the second nearest. Yoon et al. 2023, "Diffusion Probabilistic Models Generalize when They Fail to
# Memorize".
MEMORISED_RATIO = 1 / 3
ALIKE = 16  # near-identical training images (bursts, saved copies) that are skipped, at most


class TrainingNeighbours(NamedTuple):
    """Distances of N images to their nearest training images."""

    pixels: Tensor  # (N, at most ALIKE + 1), ascending
    apart: Tensor  # the same shape: of each of these neighbours to the first one
    features: Tensor  # (N,), to the nearest in the judge's features


def training_neighbours(images: JudgedImages, train: JudgedImages) -> TrainingNeighbours:
    """Distances of the images to their nearest training images."""
    pixels = measures.nearest_of_alike(images.points, train.points, min(ALIKE + 1, len(train)))
    features = measures.nearest(images.features, train.features)[:, 0]
    return TrainingNeighbours(*pixels, features)


def memorisation_figures(
    neighbours: TrainingNeighbours, test: TrainingNeighbours
) -> dict[str, Any]:
    """Figures of samples, beside the test images that have the same distances to compare with.

    Args:
        neighbours: Of the samples.
        test: Of the test images.
    """
    pixels, features = neighbours.pixels[:, 0], neighbours.features
    test_pixels, test_features = test.pixels[:, 0], test.features
    return {
        "memorised": _memorised_share(neighbours, float(test_pixels.median())),
        "nearest_pixels_ratio": _ratio_of_medians(pixels, test_pixels),
        "nearest_pixels_closer": _share_closer(pixels, test_pixels),
        "nearest_features_ratio": _ratio_of_medians(features, test_features),
        "nearest_features_closer": _share_closer(features, test_features),
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
    following = neighbours.pixels.where(different, torch.inf).amin(dim=1)
    return float((neighbours.pixels[:, 0] < MEMORISED_RATIO * following).double().mean())


def _ratio_of_medians(distances: Tensor, real: Tensor) -> float:
    """Median distance of samples (N,) over that of real images (M,)."""
    return measures.ratio(float(distances.median()), float(real.median()))


def _share_closer(distances: Tensor, real: Tensor) -> float:
    """Share of distances below the 1 % quantile of the real ones."""
    return float((distances < real.quantile(0.01)).double().mean())
