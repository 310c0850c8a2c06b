"""What one judge sees: real images in its features, and samples compared with them."""

import dataclasses
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from training.data.dataset import Dataset
from training.evaluation import measures
from training.evaluation.judge import JudgedImages
from training.evaluation.judge_networks import Judge
from training.evaluation.measures import Manifold, nearest
from training.evaluation.memorisation import closeness

SEED = 2024


class JudgedReference:
    """Real images and their scores by one judge, computed once for any number of networks.

    Args:
        judge: Trained on ``train``.
        train, test: On the judge's device.
        chosen: Indices of the training images that stand for real ones, (M,).
    """

    def __init__(self, judge: Judge, train: Dataset, test: Dataset, chosen: Tensor) -> None:
        self.judge = judge
        self.train, self.test, self.chosen = train, test, chosen
        self.num_classes = len(train.class_names)

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
    def nearest_of_test(self) -> Tensor:
        """Distance (M,) of each test image to the nearest training image."""
        return nearest(self.judged_test.features, self.judged_train.features)[:, 0]

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
        """Which judge it is, and its accuracy on real images."""
        right = self.judged_test.classes == self.test.labels
        right_train = self.judged_train.classes == self.train.labels
        return {
            "judge_version": self.judge.version,
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
        figures = self._set_figures(self.judged_test, self.nearest_of_test)
        return figures | self._diversity(self.judged_test, None)

    def compare(self, levels: Tensor, labels: Tensor | None) -> dict[str, Any]:
        """Figures of samples in the judge's features, each followed by what real images score.

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
        to_training = nearest(images.features, self.judged_train.features)[:, 0]
        measured = self._set_figures(images, to_training) | self._diversity(images, labels)
        if labels is not None:
            right = images.classes == labels.to(images.classes.device)
            in_label = by_label(right.cpu(), labels.cpu(), self.num_classes)
            measured |= {
                "conditional_accuracy": float(right.double().mean()),
                "conditional_accuracy_worst": min(in_label),
                "conditional_accuracy_worst_label": in_label.index(min(in_label)),
            }
        return figures | beside_real(measured, self.test_figures)

    def compare_reconstructions(self, levels: Tensor) -> dict[str, Any]:
        """Figures of the test images as a VAE reconstructs them, (N, C, H, W) uint8."""
        judged = JudgedImages.of(self.judge, levels)
        distance = measures.frechet_distance(judged.features, self.judged_test.features)
        right = judged.classes == self.test.labels
        return {
            "reconstruction_accuracy": float(right.double().mean()),
            "reconstruction_frechet_test": distance,
            "reconstruction_frechet_test_ratio": measures.ratio(
                distance, self.floors["frechet_test"]
            ),
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

    def _set_figures(self, images: JudgedImages, to_training: Tensor) -> dict[str, Any]:
        """Figures of a set of images that need no labels."""
        figures: dict[str, Any] = {}
        if min(len(images), len(self.real)) > measures.NEIGHBOURS:
            overlap = measures.overlap(Manifold.of(images.features), self.manifold)
            figures |= dataclasses.asdict(overlap)
        shares = measures.class_shares(images.classes, self.num_classes)
        figures["class_kl_to_uniform"] = measures.kl_to_uniform(shares)
        return figures | closeness("nearest_features", to_training, self.nearest_of_test)

    def _diversity(self, images: JudgedImages, labels: Tensor | None) -> dict[str, Any]:
        """Spread within each label relative to real images; by judged class without labels."""
        real = self.spread_by_class if labels is None else self.spread_by_label
        groups = images.classes if labels is None else labels.to(images.classes.device)
        ratios = measures.spread_by_class(images.features, groups, self.num_classes) / real
        ratios = ratios[real > 0]  # a label without two real images has nothing to compare with
        known = torch.arange(self.num_classes)[real > 0]
        if not len(known):
            return {}
        return {
            "diversity": float(ratios.mean()),
            "diversity_worst": float(ratios.min()),
            "diversity_worst_label": int(known[ratios.argmin()]),
        }


def beside_real(measured: dict[str, Any], real: dict[str, Any]) -> dict[str, Any]:
    """Each figure followed by that of real images, as ``<name>_real``, if there is one."""
    figures: dict[str, Any] = {}
    for name, value in measured.items():
        figures[name] = value
        if name in real and not name.endswith("_label"):
            figures[f"{name}_real"] = real[name]
    return figures


def by_label(right: Tensor, labels: Tensor, num_classes: int) -> list[float]:
    """Accuracy in each label; 1 for labels that do not occur. right, labels: (N,)."""
    present = (right[labels == k].double() for k in range(num_classes))
    return [float(part.mean()) if len(part) else 1.0 for part in present]
