"""Sensitivity of the metrics: real images, damaged in known ways, are measured like samples.

The images are training images held out from the reference. Undamaged they score as a perfect
generator would; each kind of damage shows which metrics detect it.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.dataset import Dataset, to_pixels
from training.evaluation.evaluate import Effort, as_served
from training.evaluation.judge import CACHE
from training.evaluation.judge_networks import Judge
from training.evaluation.judged_reference import SEED
from training.evaluation.metric_docs import rounded
from training.evaluation.reference import Reference

NOISE = 0.05  # standard deviation; the range of a pixel is 1

Labelled = tuple[Tensor, Tensor]  # uint8 images (N, C, H, W), labels (N,)


def _blur(levels: Tensor, labels: Tensor) -> Labelled:
    return as_served(F.avg_pool2d(to_pixels(levels), 3, stride=1, padding=1)), labels


def _shift(levels: Tensor, labels: Tensor) -> Labelled:
    return F.pad(levels, (1, 0))[..., :-1], labels


def _fade(levels: Tensor, labels: Tensor) -> Labelled:
    return as_served(to_pixels(levels) * 0.9), labels


def _add_noise(levels: Tensor, labels: Tensor) -> Labelled:
    random = torch.Generator().manual_seed(SEED)
    noise = NOISE * torch.randn(levels.shape, generator=random).to(levels.device)
    return as_served((to_pixels(levels) + noise).clamp(0, 1)), labels


def _repeat_half(levels: Tensor, labels: Tensor) -> Labelled:
    half = len(levels) // 2
    return torch.cat([levels[:half]] * 2), torch.cat([labels[:half]] * 2)


def _drop_label(levels: Tensor, labels: Tensor) -> Labelled:
    """Images of the last label are replaced by images of the one before."""
    last = int(labels.max())
    dropped, substitutes = (torch.where(labels == k)[0] for k in (last, last - 1))
    levels = levels.clone()
    chosen = torch.arange(len(dropped), device=levels.device) % len(substitutes)
    levels[dropped] = levels[substitutes[chosen]]
    return levels, labels


def _level_labels(levels: Tensor, labels: Tensor) -> Labelled:
    """Equally frequent labels; images of rare ones are repeated."""
    classes = labels.unique()
    each = len(labels) // len(classes)
    own = (torch.where(labels == k)[0] for k in classes)
    chosen = torch.cat([rows.repeat(-(-each // len(rows)))[:each] for rows in own])
    return levels[chosen], labels[chosen]


DAMAGES: dict[str, Callable[[Tensor, Tensor], Labelled]] = {
    "none": lambda levels, labels: (levels, labels),
    "3x3 blur": _blur,
    "1 pixel right": _shift,
    "contrast x 0.9": _fade,
    "noise 0.05": _add_noise,
    "half, twice": _repeat_half,
    "a label missing": _drop_label,
    "equal labels": _level_labels,
}
BY_HEART = "training images"  # no damage: images of the reference itself, as if memorised

SHOWN = (
    *("frechet_test_ratio", "frechet_train_ratio", "kid_train"),
    *("precision", "recall", "density", "coverage"),
    *("conditional_accuracy", "conditional_accuracy_worst", "class_kl_to_uniform"),
    *("diversity", "diversity_worst", "exact_duplicates", "near_duplicates"),
    *("training_copies", "memorised", "nearest_pixels_ratio", "nearest_pixels_closer"),
    *("nearest_features_ratio", "nearest_features_closer", "membership_auc", "membership_tpr"),
    *("histogram_distance", "black_pixels", "cas_gap_points"),
)


def measure_damages(
    judge: Judge,
    train: Dataset,
    test: Dataset,
    effort: Effort | None = None,
    cache: Path = CACHE,
) -> dict[str, dict[str, Any]]:
    """Damage -> figures of ``effort.samples`` held-out training images with that damage.

    For CAS the images that are not held out are damaged.

    Args:
        judge, train, test: On one device.
        cache: As for ``Reference``.
    """
    effort = effort or Effort()
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(SEED + 1))
    order = order.to(train.images.device)
    held_out, others = order[: effort.samples], order[effort.samples :]
    rest = dataclasses.replace(train, images=train.images[others], labels=train.labels[others])
    reference = Reference(judge, rest, test, effort.samples, cache)
    figures = {}
    for name, damage in DAMAGES.items():
        print(f"measuring {effort.samples} real images, damage: {name}", flush=True)
        figures[name] = reference.compare(*damage(train.images[held_out], train.labels[held_out]))
        if effort.cas_images:
            count = min(effort.cas_images, len(rest))
            damaged = damage(rest.images[:count], rest.labels[:count])
            figures[name] |= reference.compare_by_cas(*damaged)
    some = slice(0, effort.samples)
    figures[BY_HEART] = reference.compare(rest.images[some], rest.labels[some])
    return {name: rounded(values) for name, values in figures.items()}


def sensitivity_table(figures: dict[str, dict[str, Any]]) -> str:
    """Figures by row, damages by column, as Markdown."""
    lines = [f"| Figure | {' | '.join(figures)} |", f"| --- |{' --- |' * len(figures)}"]
    for name in SHOWN:
        if name in figures["none"]:
            values = (str(column.get(name, "")) for column in figures.values())
            lines.append(f"| `{name}` | {' | '.join(values)} |")
    return "\n".join(lines)
