"""Real images as the yardstick: what they score, and samples compared with them."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from training.data.dataset import DataError, Dataset, to_pixels
from training.evaluation import cas, measures
from training.evaluation.judge import CACHE, VERSION, Judge
from training.evaluation.measures import Manifold, nearest

BATCH = 500
SEED = 2024
SAMPLES = 10_000
# Of the distances to the nearest and the second nearest training image: below it, the first is
# repeated. Yoon et al. 2023, "Diffusion Probabilistic Models Generalize when They Fail to
# Memorize".
MEMORISED_RATIO = 1 / 3
ALIKE = 16  # training images that may show all but the same: bursts, copies saved anew


@dataclass(frozen=True)
class Judged:
    """Images with what the judge makes of them."""

    levels: Tensor  # (N, C, H, W) uint8
    features: Tensor  # (N, D)
    classes: Tensor  # (N,) int64

    @classmethod
    def by(cls, judge: Judge, levels: Tensor) -> "Judged":
        """Judge uint8 images (N, C, H, W), a batch at a time."""
        features, classes = [], []
        for part in levels.split(BATCH):
            features.append(judge.features(to_pixels(part)))
            classes.append(judge(to_pixels(part))[0].argmax(1))
        return cls(levels, torch.cat(features), torch.cat(classes))

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, chosen: Tensor) -> "Judged":
        return Judged(self.levels[chosen], self.features[chosen], self.classes[chosen])

    @property
    def points(self) -> Tensor:
        """Pixels as points, (N, C H W) in [0, 1]."""
        return to_pixels(self.levels).flatten(1)


class _ToTrain(NamedTuple):
    """Distances of N images to the nearest training images."""

    pixels: Tensor  # (N, ALIKE + 1 at most), ascending
    apart: Tensor  # the same shape: of each of these neighbours to the first
    features: Tensor  # (N,), to the nearest in features


def by_label(right: Tensor, labels: Tensor, num_classes: int) -> list[float]:
    """Share that is right in each label that occurs; 1 for the others. right, labels: (N,)."""
    present = (right[labels == k].double() for k in range(num_classes))
    return [float(part.mean()) if len(part) else 1.0 for part in present]


class Reference:
    """Real images and what they score: computed once, however many networks are compared with it.

    Args:
        judge: Trained on ``train``.
        train, test: On the judge's device; at least 4 and 2 images.
        samples: Real images in the comparisons that take as many real as generated ones; half of
            a training set that has no more than these.
        cache: Where the classifier that CAS trains on real images is kept.
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
        self._order = order.to(train.images.device)
        # A small set against itself would be a floor of 0: then half of it stands for real images.
        self._chosen = self._order[: samples if samples <= len(train) else len(train) // 2]

    @property
    def shares(self) -> Tensor:
        """Of the labels, (K,), among the images that stand for real ones."""
        return measures.class_shares(self.train.labels[self._chosen], self.num_classes)

    def cas_shares(self, count: int) -> Tensor:
        """The same among those that CAS's other classifier is trained on."""
        return measures.class_shares(self.train.labels[self._order[:count]], self.num_classes)

    @cached_property
    def judged_train(self) -> Judged:
        """All training images."""
        return Judged.by(self.judge, self.train.images)

    @cached_property
    def judged_test(self) -> Judged:
        """All test images."""
        return Judged.by(self.judge, self.test.images)

    @cached_property
    def real(self) -> Judged:
        """The seeded draw of training images that stands for real images."""
        return self.judged_train[self._chosen]

    @cached_property
    def manifold(self) -> Manifold:
        """Where real images are, in features."""
        return Manifold.of(self.real.features)

    @cached_property
    def histogram(self) -> Tensor:
        """Of all training images' pixels, (256,)."""
        return measures.histogram(self.train.images)

    @cached_property
    def training_bytes(self) -> set[bytes]:
        """Every training image, to find copies of it."""
        return set(measures.image_bytes(self.train.images))

    @cached_property
    def near_duplicate(self) -> float:
        """Pixel distance that 0.1 % of real images have to their nearest other, or less."""
        return float(nearest(self.real.points)[:, 0].quantile(0.001))

    @cached_property
    def test_to_train(self) -> _ToTrain:
        """The test images' nearest training images."""
        return self._to_train(self.judged_test)

    def _to_train(self, images: Judged) -> _ToTrain:
        to = self.judged_train
        pixels = measures.nearest_of_alike(
            images.points, to.points, min(ALIKE + 1, len(self.train))
        )
        return _ToTrain(*pixels, nearest(images.features, to.features)[:, 0])

    def _memorised(self, to_train: _ToTrain) -> float:
        """Share of images less than a third as far from the nearest training image as from the next
        that shows something else: one not within a third of what test images usually are from their
        nearest. Otherwise no copy of a picture that is there twice would be seen."""
        alike = MEMORISED_RATIO * float(self.test_to_train.pixels[:, 0].median())
        others = to_train.apart >= alike
        others[:, 0], others[:, -1] = False, True  # there may be more alike than were looked at
        following = to_train.pixels.where(others, torch.inf).amin(dim=1)
        return float((to_train.pixels[:, 0] < MEMORISED_RATIO * following).double().mean())

    @cached_property
    def spread_by_label(self) -> Tensor:
        """Mean distance of two real images of a label, (K,)."""
        labels = self.train.labels[self._chosen]
        return measures.spread_by_class(self.real.features, labels, self.num_classes)

    @cached_property
    def spread_by_class(self) -> Tensor:
        """The same by the judge's class, (K,), for samples that have no label."""
        return measures.spread_by_class(self.real.features, self.real.classes, self.num_classes)

    @cached_property
    def judge_figures(self) -> dict[str, Any]:
        """How many real images there are, and how the judge reads them."""
        right = self.judged_test.classes == self.test.labels
        right_train = self.judged_train.classes == self.train.labels
        return {
            "real_images": len(self._chosen),
            "test_images": len(self.test),
            "judge_version": VERSION,
            "judge_accuracy": float(right.double().mean()),
            "judge_accuracy_worst": min(by_label(right, self.test.labels, self.num_classes)),
            "judge_accuracy_train": float(right_train.double().mean()),
        }

    @cached_property
    def floors(self) -> dict[str, float]:
        """What as many real training images score in the distances between distributions."""
        return self._distances(self.real.features)

    @cached_property
    def test_figures(self) -> dict[str, Any]:
        """What the real test images score as if they were samples."""
        figures = self._sets(self.judged_test, self.test_to_train)
        return figures | self._diversity(self.judged_test.features, self.judged_test.classes, None)

    def cas_real(self, count: int) -> float:
        """Test accuracy of the classifier trained on ``count`` real images."""
        classifier = cas.real_classifier(self.train, self._order[:count], self.cache)
        return cas.accuracy(classifier, self.test)

    def _distances(self, features: Tensor) -> dict[str, float]:
        test, train = self.judged_test.features, self.judged_train.features
        return {
            "frechet_test": measures.frechet_distance(features, test),
            "frechet_train": measures.frechet_distance(features, train),
            "kid_test": measures.kernel_distance(features, test, SEED),
            "kid_train": measures.kernel_distance(features, train, SEED),
        }

    def _as_many(self, features: Tensor) -> Tensor:
        """A seeded choice of no more than the real images, whose number is that of the floors: of
        fewer images a Fréchet distance is greater."""
        if len(features) <= len(self._chosen):
            return features
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(SEED))
        return features[order[: len(self._chosen)].to(features.device)]

    def _sets(self, images: Judged, to_train: _ToTrain) -> dict[str, Any]:
        """Figures of any images that have no labels of their own."""
        shares = measures.class_shares(images.classes, self.num_classes)
        as_bytes = measures.image_bytes(images.levels)
        levels = measures.histogram(images.levels)
        pixels, features = to_train.pixels[:, 0], to_train.features
        test_pixels, test_features = self.test_to_train.pixels[:, 0], self.test_to_train.features
        figures: dict[str, Any] = {}
        if min(len(images), len(self.real)) > measures.NEIGHBOURS:
            shared = measures.overlap(Manifold.of(images.features), self.manifold)
            figures |= dataclasses.asdict(shared)
        return figures | {
            "class_kl_to_uniform": measures.kl_to_uniform(shares),
            "exact_duplicates": len(as_bytes) - len(set(as_bytes)),
            "near_duplicates": float(
                (nearest(images.points)[:, 0] < self.near_duplicate).double().mean()
            ),
            "training_copies": sum(image in self.training_bytes for image in as_bytes),
            "memorised": self._memorised(to_train),
            "nearest_pixels_ratio": _ratio_of_medians(pixels, test_pixels),
            "nearest_pixels_closer": _share_below(pixels, test_pixels),
            "nearest_features_ratio": _ratio_of_medians(features, test_features),
            "nearest_features_closer": _share_below(features, test_features),
            "histogram_distance": measures.histogram_distance(levels, self.histogram),
            "black_pixels": float(levels[0]),
        }

    def _diversity(
        self, features: Tensor, classes: Tensor, labels: Tensor | None
    ) -> dict[str, Any]:
        """Spread within labels over that of real images: by asked label, else by judged class."""
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

    def compare(self, levels: Tensor, labels: Tensor | None) -> dict[str, Any]:
        """Figures of samples, each followed by what real images score.

        Args:
            levels: (N, C, H, W) uint8, on the judge's device.
            labels: (N,) that were asked for; None for samples without labels.
        """
        images = Judged.by(self.judge, levels)
        figures: dict[str, Any] = {}
        for name, distance in self._distances(self._as_many(images.features)).items():
            floor = self.floors[name]
            figures |= {name: distance, f"{name}_floor": floor}
            if name.startswith("frechet"):
                figures[f"{name}_ratio"] = ratio(distance, floor)
        measured = self._sets(images, self._to_train(images))
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
        """CAS of labelled samples (N, C, H, W) uint8, (N,), beside as many real images."""
        classifier = cas.train_classifier(levels, labels.to(levels.device), self.num_classes)
        score, real = cas.accuracy(classifier, self.test), self.cas_real(len(levels))
        return {
            "cas": score,
            "cas_real": real,
            "cas_gap_points": 100 * (real - score),
            "cas_images": len(levels),
        }


def ratio(value: float, unit: float) -> float:
    """value / unit; finite also where the real images are so few that the unit is 0."""
    return value / max(unit, 1e-12)


def _ratio_of_medians(distances: Tensor, real: Tensor) -> float:
    """Median distance to the nearest, (N,) and (M,), over that of the real ones."""
    return ratio(float(distances.median()), float(real.median()))


def _share_below(distances: Tensor, real: Tensor) -> float:
    """Share of distances below the 1 % quantile of the real ones."""
    return float((distances < real.quantile(0.01)).double().mean())
