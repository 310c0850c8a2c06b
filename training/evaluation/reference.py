"""Real images as the reference: what they score, and samples compared with them."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.data.dataset import DataError, Dataset, to_pixels
from training.evaluation import cas, likelihood, measures
from training.evaluation.judge import CACHE
from training.evaluation.judge_networks import Judge
from training.evaluation.judged_reference import SEED, JudgedReference, beside_real
from training.evaluation.measures import nearest
from training.evaluation.membership import attack_by_distance
from training.evaluation.memorisation import (
    TrainingNeighbours,
    memorisation_figures,
    training_neighbours,
)

SAMPLES = 10_000


class Reference:
    """Real images and their scores, computed once for any number of networks.

    Args:
        judge: Trained on ``train``; the one that publishes.
        train, test: On the judge's device; at least 4 and 2 images.
        samples: Real images in comparisons that need as many real as generated ones; half of the
            training set if it has fewer.
        cache: Folder of the classifier that CAS trains on real images.
        choosing: The judge by which epochs are chosen; None = none did.

    Raises:
        DataError: too few images.
    """

    def __init__(
        self,
        judge: Judge,
        train: Dataset,
        test: Dataset,
        samples: int = SAMPLES,
        cache: Path = CACHE,
        choosing: Judge | None = None,
    ) -> None:
        if len(train) < 4 or len(test) < 2:
            raise DataError(
                f"{len(train)} training and {len(test)} test images are too few to measure with; "
                "at least 4 and 2 are needed"
            )
        self.train, self.test = train, test
        self.cache = cache
        self.num_classes = len(train.class_names)
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(SEED))
        self.order = order.to(train.images.device)  # seeded, of all training images
        # The training images that stand for real ones. All of a small set against itself would be
        # a floor of 0, so half of it does.
        self.chosen = self.order[: samples if samples <= len(train) else len(train) // 2]
        self.judged = JudgedReference(judge, train, test, self.chosen)
        self.by_choosing: JudgedReference | None = None
        if choosing is not None:
            self.by_choosing = JudgedReference(choosing, train, test, self.chosen)

    @property
    def shares(self) -> Tensor:
        """Label frequencies (K,) among the chosen images."""
        return measures.class_shares(self.train.labels[self.chosen], self.num_classes)

    def cas_shares(self, count: int) -> Tensor:
        """Label frequencies (K,) among the real images that CAS's classifier is trained on."""
        return measures.class_shares(self.train.labels[self.order[:count]], self.num_classes)

    @cached_property
    def train_points(self) -> Tensor:
        """Pixels of the training images as points, (N, C H W) in [0, 1]."""
        return _points(self.train.images)

    @cached_property
    def histogram(self) -> Tensor:
        """Of all training images' pixels, (256,)."""
        return measures.histogram(self.train.images)

    @cached_property
    def training_bytes(self) -> set[bytes]:
        """Every training image as bytes, to find exact copies."""
        return set(measures.image_bytes(self.train.images))

    @cached_property
    def near_duplicate(self) -> float:
        """Pixel distance to the nearest other image; 0.1 % of the chosen images have a smaller
        one."""
        return float(nearest(self.train_points[self.chosen])[:, 0].quantile(0.001))

    @cached_property
    def test_neighbours(self) -> TrainingNeighbours:
        """Of the test images."""
        return training_neighbours(_points(self.test.images), self.train_points)

    @cached_property
    def count_figures(self) -> dict[str, Any]:
        """Numbers of real images."""
        return {"real_images": len(self.chosen), "test_images": len(self.test)}

    @cached_property
    def test_figures(self) -> dict[str, Any]:
        """What the real test images score in place of samples, by no judge."""
        return self._pixel_figures(self.test.images, self.test_neighbours)

    @cached_property
    def members(self) -> Tensor:
        """Indices of the training images that membership inference has to tell from test images:
        as many as those, but at most half of all."""
        return self.order[-min(len(self.test), len(self.train) // 2) :]

    @cached_property
    def test_membership(self) -> dict[str, Any]:
        """What other training images give away in place of samples: how the members differ from
        the test images without any network."""
        rest = self.order[: len(self.train) - len(self.members)][: len(self.chosen)]
        return self._membership(self.train_points[rest])

    def compare(self, levels: Tensor, labels: Tensor | None) -> dict[str, Any]:
        """Figures of samples, each followed by what real images score.

        Args:
            levels: (N, C, H, W) uint8, on the judge's device.
            labels: (N,), with which they were generated; None for samples without labels.
        """
        figures = self.judged.compare(levels, labels)
        neighbours = training_neighbours(_points(levels), self.train_points)
        measured = self._pixel_figures(levels, neighbours) | self._membership(_points(levels))
        return figures | beside_real(measured, self.test_figures | self.test_membership)

    def compare_reconstructions(self, levels: Tensor) -> dict[str, Any]:
        """Figures of the test images as a VAE reconstructs them, (N, C, H, W) uint8."""
        one, other = to_pixels(levels), to_pixels(self.test.images)
        return {
            "reconstruction_mse": float((one - other).square().mean()),
            "reconstruction_ssim": likelihood.structural_similarity(one, other),
            **self.judged.compare_reconstructions(levels),
        }

    def compare_by_cas(self, levels: Tensor, labels: Tensor) -> dict[str, Any]:
        """CAS of labelled samples (N, C, H, W) uint8, (N,), beside that of as many real images."""
        classifier = cas.train_classifier(levels, labels.to(levels.device), self.num_classes)
        real_classifier = cas.real_classifier(self.train, self.order[: len(levels)], self.cache)
        score, real = cas.accuracy(classifier, self.test), cas.accuracy(real_classifier, self.test)
        return {
            "cas": score,
            "cas_real": real,
            "cas_gap_points": 100 * (real - score),
            "cas_images": len(levels),
        }

    def _pixel_figures(self, images: Tensor, neighbours: TrainingNeighbours) -> dict[str, Any]:
        """Figures of images (N, C, H, W) uint8 that need no judge."""
        as_bytes = measures.image_bytes(images)
        levels = measures.histogram(images)
        return {
            "exact_duplicates": len(as_bytes) - len(set(as_bytes)),
            "near_duplicates": float(
                (nearest(_points(images))[:, 0] < self.near_duplicate).double().mean()
            ),
            "training_copies": sum(image in self.training_bytes for image in as_bytes),
            **memorisation_figures(neighbours, self.test_neighbours),
            "histogram_distance": measures.histogram_distance(levels, self.histogram),
            "black_pixels": float(levels[0]),
        }

    def _membership(self, samples: Tensor) -> dict[str, Any]:
        """Of samples as points (N, C H W): the attack by distance."""
        members = self.train_points[self.members]
        found = attack_by_distance(samples, members, _points(self.test.images))
        return {"membership_auc": found.auc, "membership_tpr": found.tpr}


def _points(levels: Tensor) -> Tensor:
    """Pixels of images (N, C, H, W) uint8 as points, (N, C H W) in [0, 1]."""
    return to_pixels(levels).flatten(1)
