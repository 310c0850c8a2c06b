"""Real images damaged on purpose: shows what each measure sees, and what it is blind to.

The samples are real training images held out from the reference, so undamaged ones score what a
perfect generator would, and each damage shows in the measures that see it.
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
from training.evaluation.judge import CACHE, Judge
from training.evaluation.metric_docs import rounded
from training.evaluation.reference import SEED, Reference

NOISE = 0.05  # standard deviation; the range of a pixel is 1

Labelled = tuple[Tensor, Tensor]  # uint8 images (N, C, H, W), labels asked for (N,)


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
    """Whoever asks for the last label gets images of the one before."""
    last = int(labels.max())
    asked, given = (torch.where(labels == k)[0] for k in (last, last - 1))
    levels = levels.clone()
    levels[asked] = levels[given[torch.arange(len(asked), device=given.device) % len(given)]]
    return levels, labels


def _level_labels(levels: Tensor, labels: Tensor) -> Labelled:
    """Equal shares of the labels; images of those that are rarer come again."""
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
BY_HEART = "training images"  # not a damage of the held-out images: the others themselves

SHOWN = (
    *("frechet_test_ratio", "frechet_train_ratio", "kid_train"),
    *("precision", "recall", "density", "coverage"),
    *("conditional_accuracy", "conditional_accuracy_worst", "class_kl_to_uniform"),
    *("diversity", "diversity_worst", "exact_duplicates", "near_duplicates"),
    *("training_copies", "memorised", "nearest_pixels_ratio", "nearest_pixels_closer"),
    *("nearest_features_ratio", "nearest_features_closer"),
    *("histogram_distance", "black_pixels", "cas_gap_points"),
)


def figures_of_damage(
    judge: Judge,
    train: Dataset,
    test: Dataset,
    effort: Effort | None = None,
    cache: Path = CACHE,
) -> dict[str, dict[str, Any]]:
    """Damage -> figures of ``effort.samples`` held-out training images that suffered it.

    For CAS, the images that were not held out suffer it.

    Args:
        judge, train, test: On one device.
        cache: As of Reference.
    """
    effort = effort or Effort()
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(SEED + 1))
    order = order.to(train.images.device)
    held_out, others = order[: effort.samples], order[effort.samples :]
    rest = dataclasses.replace(train, images=train.images[others], labels=train.labels[others])
    reference = Reference(judge, rest, test, effort.samples, cache)
    found = {}
    for name, damage in DAMAGES.items():
        print(f"measuring {effort.samples} real images, damage: {name}", flush=True)
        found[name] = reference.compare(*damage(train.images[held_out], train.labels[held_out]))
        if effort.cas_images:
            count = min(effort.cas_images, len(rest))
            damaged = damage(rest.images[:count], rest.labels[:count])
            found[name] |= reference.compare_by_cas(*damaged)
    some = slice(0, effort.samples)
    found[BY_HEART] = reference.compare(rest.images[some], rest.labels[some])
    return {name: rounded(figures) for name, figures in found.items()}


def damage_table(found: dict[str, dict[str, Any]]) -> str:
    """Figures by row, damages by column, as Markdown."""
    lines = [f"| Figure | {' | '.join(found)} |", f"| --- |{' --- |' * len(found)}"]
    for name in SHOWN:
        if name in found["none"]:
            values = (str(figures.get(name, "")) for figures in found.values())
            lines.append(f"| `{name}` | {' | '.join(values)} |")
    return "\n".join(lines)
