"""Damage done to real digits, seen by a judge that has learnt from real digits."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from training.data.dataset import Dataset
from training.data.sources import data_spec, load_data
from training.evaluation import cas, measures
from training.evaluation.evaluate import Effort
from training.evaluation.judge import judge_for
from training.evaluation.judge_networks import PublishingJudge
from training.evaluation.metric_sensitivity import (
    BY_HEART,
    DAMAGES,
    measure_damages,
    sensitivity_table,
)


def some(data: Dataset, count: int) -> Dataset:
    return dataclasses.replace(data, images=data.images[:count], labels=data.labels[:count])


@pytest.fixture(scope="module")
def real_digits(mnist_root: Path) -> tuple[Dataset, Dataset]:
    """3,000 digits to compare with and 800 to test on."""
    train, test = load_data(data_spec("mnist", mnist_root))
    return some(train, 3000), some(test, 800)


@pytest.fixture(scope="module")
def damaged(
    mnist_root: Path, real_digits: tuple[Dataset, Dataset], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Damage -> figures of 800 digits that suffered it, by the shipped judge."""
    train, test = real_digits
    cache = tmp_path_factory.mktemp("judges")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(measures, "KID_SUBSETS", 2)
        whole = load_data(data_spec("mnist", mnist_root))[0]
        judge = judge_for(PublishingJudge, whole, torch.device("cpu"), cache)
        assert not list(cache.iterdir())  # nothing was trained
        return measure_damages(judge, train, test, Effort(800, cas_images=0), cache)


# Damage -> figure -> how far it moves from that of undamaged digits, at least: about a third of
# what was seen, and well beyond what one draw of digits differs from another.
MOVES: dict[str, dict[str, float]] = {
    "3x3 blur": {
        "frechet_train_ratio": 4,
        "kid_train": 0.06,
        "recall": -0.2,
        "coverage": -0.06,
        "diversity": -0.06,
        "histogram_distance": 0.2,
        "black_pixels": -0.06,
    },
    "1 pixel right": {"frechet_train_ratio": 1.5, "density": -0.08, "coverage": -0.04},
    "contrast x 0.9": {
        "frechet_train_ratio": 0.15,
        "kid_train": 0.003,
        "density": 0.04,  # upwards: why density and precision are never read alone
        "diversity": -0.01,
        "histogram_distance": 0.06,
    },
    "noise 0.05": {
        "frechet_train_ratio": 1.5,
        "kid_train": 0.03,
        "histogram_distance": 0.3,
        "black_pixels": -0.13,
    },
    "half, twice": {
        "recall": -0.04,
        "coverage": -0.04,
        "exact_duplicates": 400,
        "near_duplicates": 0.9,
    },
    "a label missing": {
        "frechet_train_ratio": 1.5,
        "coverage": -0.03,
        "conditional_accuracy": -0.04,
        "conditional_accuracy_worst": -0.5,
        "class_kl_to_uniform": 0.04,
    },
    "equal labels": {"exact_duplicates": 3, "class_kl_to_uniform": -0.001},
    BY_HEART: {
        "training_copies": 800,
        "memorised": 0.9,
        "nearest_pixels_ratio": -0.8,
        "nearest_pixels_closer": 0.9,
        "nearest_features_ratio": -0.8,
        "nearest_features_closer": 0.9,
    },
}


@pytest.mark.parametrize("damage", MOVES)
def test_damage_shows_in(damage: str, damaged: dict[str, Any]) -> None:
    for name, least in MOVES[damage].items():
        moved = damaged[damage][name] - damaged["none"][name]
        assert moved / least >= 1, f"{name} moved by {moved:.4g}, expected {least}"


def test_cas_loses_the_label_that_is_missing(real_digits: tuple[Dataset, Dataset]) -> None:
    train, test = real_digits
    scores = [
        cas.accuracy(cas.train_classifier(*DAMAGES[damage](train.images, train.labels), 10), test)
        for damage in ("none", "a label missing")
    ]
    assert scores[0] > scores[1] + 0.05


def test_the_table_of_damage_has_them_all(damaged: dict[str, Any]) -> None:
    head, _, *lines = sensitivity_table(damaged).splitlines()
    assert head == f"| Figure | {' | '.join([*DAMAGES, BY_HEART])} |"
    assert len(lines) >= 20
    assert all(line.count("|") == head.count("|") for line in lines)
