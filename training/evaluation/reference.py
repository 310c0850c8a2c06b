"""Real images as the reference: what they score, and samples compared with them."""

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.data.dataset import DataError, Dataset
from training.evaluation import cas, measures
from training.evaluation.judge import CACHE, VERSION, Judge, JudgedImages
from training.evaluation.measures import Manifold, nearest
from training.evaluation.memorisation import (
    TrainingNeighbours,
    memorisation_figures,
    training_neighbours,
)

SEED = 2024
SAMPLES = 10_000


class Reference:
    """Real images and their scores, computed once for any number of networks.

    Args:
        judge: Trained on ``train``.
        train, test: On the judge's device; at least 4 and 2 images.
        samples: Real images in comparisons that need as many real as generated ones; half of the
            training set if it has fewer.
        cache: Folder of the classifier that CAS trains on real images.

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
    ) -> None:
        if len(train) < 4 or len(test) < 2:
            raise DataError(
                f"{len(train)} training and {len(test)} test images are too few to measure with; "
                "at least 4 and 2 are needed"
            )
        self.judge = judge
        self.train, self.test = train, test
        self.cache = cache
        self.num_classes = len(train.class_names)
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(SEED))
        self.order = order.to(train.images.device)  # seeded, of all training images
        # The training images that stand for real ones. All of a small set against itself would be
        # a floor of 0, so half of it does.
        self.chosen = self.order[: samples if samples <= len(train) else len(train) // 2]

    @property
    def shares(self) -> Tensor:
        """Label frequencies (K,) among the chosen images."""
        return measures.class_shares(self.train.labels[self.chosen], self.num_classes)

    def cas_shares(self, count: int) -> Tensor:
        """Label frequencies (K,) among the real images that CAS's classifier is trained on."""
        return measures.class_shares(self.train.labels[self.order[:count]], self.num_classes)

    @cached_property
    def judged_train(self) -> JudgedImages:
        """All training images."""
        return JudgedImages.of(self.judge, self.train.images)

    @cached_property
    def judged_test(self) -> JudgedImages:
        """All test images."""
        return JudgedImages.of(self.judge, self.test.images)

    @cached_property
    def real(self) -> JudgedImages:
        """The chosen training images."""
        return self.judged_train[self.chosen]

    @cached_property
    def manifold(self) -> Manifold:
        """Of the chosen images, in features."""
        return Manifold.of(self.real.features)

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
        return float(nearest(self.real.points)[:, 0].quantile(0.001))

    @cached_property
    def test_neighbours(self) -> TrainingNeighbours:
        """Of the test images."""
        return training_neighbours(self.judged_test, self.judged_train)

    @cached_property
    def spread_by_label(self) -> Tensor:
        """Mean distance between two chosen images of a label, (K,)."""
        labels = self.train.labels[self.chosen]
        return measures.spread_by_class(self.real.features, labels, self.num_classes)

    @cached_property
    def spread_by_class(self) -> Tensor:
        """The same by the judge's class, (K,), for samples that have no label."""
        return measures.spread_by_class(self.real.features, self.real.classes, self.num_classes)

    @cached_property
    def judge_figures(self) -> dict[str, Any]:
        """Number of real images, and the judge's accuracy on them."""
        right = self.judged_test.classes == self.test.labels
        right_train = self.judged_train.classes == self.train.labels
        return {
            "real_images": len(self.chosen),
            "test_images": len(self.test),
            "judge_version": VERSION,
            "judge_accuracy": float(right.double().mean()),
            "judge_accuracy_worst": min(by_label(right, self.test.labels, self.num_classes)),
            "judge_accuracy_train": float(right_train.double().mean()),
        }

    @cached_property
    def floors(self) -> dict[str, float]:
        """The distances between distributions that the chosen real images score."""
        return self._distances(self.real.features)

    @cached_property
    def test_figures(self) -> dict[str, Any]:
        """What the real test images score in place of samples."""
        figures = self._set_figures(self.judged_test, self.test_neighbours)
        return figures | self._diversity(self.judged_test.features, self.judged_test.classes, None)

    def compare(self, levels: Tensor, labels: Tensor | None) -> dict[str, Any]:
        """Figures of samples, each followed by what real images score.

        Args:
            levels: (N, C, H, W) uint8, on the judge's device.
            labels: (N,), with which they were generated; None for samples without labels.
        """
        images = JudgedImages.of(self.judge, levels)
        figures: dict[str, Any] = {}
        for name, distance in self._distances(self.subsample(images.features)).items():
            floor = self.floors[name]
            figures |= {name: distance, f"{name}_floor": floor}
            if name.startswith("frechet"):
                figures[f"{name}_ratio"] = measures.ratio(distance, floor)
        measured = self._set_figures(images, training_neighbours(images, self.judged_train))
        measured |= self._diversity(images.features, images.classes, labels)
        if labels is not None:
            right = images.classes == labels.to(images.classes.device)
            in_label = by_label(right.cpu(), labels.cpu(), self.num_classes)
            measured |= {
                "conditional_accuracy": float(right.double().mean()),
                "conditional_accuracy_worst": min(in_label),
                "conditional_accuracy_worst_label": in_label.index(min(in_label)),
            }
        for name, value in measured.items():
            figures[name] = value
            if name in self.test_figures and not name.endswith("_label"):
                figures[f"{name}_real"] = self.test_figures[name]
        return figures

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

    def subsample(self, features: Tensor) -> Tensor:
        """A seeded choice of at most as many rows as there are chosen real images.

        The floors are of that many, and a Fréchet distance is larger for fewer images.
        """
        if len(features) <= len(self.chosen):
            return features
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(SEED))
        return features[order[: len(self.chosen)].to(features.device)]

    def _distances(self, features: Tensor) -> dict[str, float]:
        test, train = self.judged_test.features, self.judged_train.features
        return {
            "frechet_test": measures.frechet_distance(features, test),
            "frechet_train": measures.frechet_distance(features, train),
            "kid_test": measures.kernel_distance(features, test, SEED),
            "kid_train": measures.kernel_distance(features, train, SEED),
        }

    def _set_figures(self, images: JudgedImages, neighbours: TrainingNeighbours) -> dict[str, Any]:
        """Figures of a set of images that need no labels."""
        shares = measures.class_shares(images.classes, self.num_classes)
        as_bytes = measures.image_bytes(images.levels)
        levels = measures.histogram(images.levels)
        figures: dict[str, Any] = {}
        if min(len(images), len(self.real)) > measures.NEIGHBOURS:
            overlap = measures.overlap(Manifold.of(images.features), self.manifold)
            figures |= dataclasses.asdict(overlap)
        figures |= {
            "class_kl_to_uniform": measures.kl_to_uniform(shares),
            "exact_duplicates": len(as_bytes) - len(set(as_bytes)),
            "near_duplicates": float(
                (nearest(images.points)[:, 0] < self.near_duplicate).double().mean()
            ),
            "training_copies": sum(image in self.training_bytes for image in as_bytes),
        }
        return (
            figures
            | memorisation_figures(neighbours, self.test_neighbours)
            | {
                "histogram_distance": measures.histogram_distance(levels, self.histogram),
                "black_pixels": float(levels[0]),
            }
        )

    def _diversity(
        self, features: Tensor, classes: Tensor, labels: Tensor | None
    ) -> dict[str, Any]:
        """Spread within each label relative to real images; by judged class without labels."""
        real = self.spread_by_class if labels is None else self.spread_by_label
        groups = classes if labels is None else labels.to(classes.device)
        ratios = measures.spread_by_class(features, groups, self.num_classes) / real
        ratios = ratios[real > 0]  # a label without two real images has nothing to compare with
        known = torch.arange(self.num_classes)[real > 0]
        if not len(known):
            return {}
        return {
            "diversity": float(ratios.mean()),
            "diversity_worst": float(ratios.min()),
            "diversity_worst_label": int(known[ratios.argmin()]),
        }


def by_label(right: Tensor, labels: Tensor, num_classes: int) -> list[float]:
    """Accuracy in each label; 1 for labels that do not occur. right, labels: (N,)."""
    present = (right[labels == k].double() for k in range(num_classes))
    return [float(part.mean()) if len(part) else 1.0 for part in present]
