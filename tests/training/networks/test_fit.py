"""Fit is the share of held-out pictures that fit worse; its table goes through the header."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.networks.checkpoints import make, refusal, with_metadata
from training.networks.checkpoint import load, save
from training.networks.fit import QUANTILES, FitTable

RANDOM = np.random.default_rng(0)


def drawn(count: int) -> tuple[Any, Any, Any]:
    """Made-up pictures, their reconstructions, and latents of unequal spread around (1, 2, 3)."""
    images = RANDOM.random((count, 1, 4, 4))
    noise = RANDOM.normal(0, 0.1, images.shape) * RANDOM.random((count, 1, 1, 1))
    return images, images + noise, RANDOM.normal((1, 2, 3), (1, 5, 0.1), (count, 3))


def test_a_picture_of_the_same_kind_ranks_anywhere_and_evenly() -> None:
    fits = np.array(FitTable.of(*drawn(4000)).fit(*drawn(4000)))
    for share in (0.1, 0.5, 0.9):
        assert abs((fits < share).mean() - share) < 0.03


@pytest.mark.parametrize("wrong", ["reconstruction", "latent", "black"])
def test_a_picture_that_differs_in_either_way_fits_worse_than_all(wrong: str) -> None:
    table = FitTable.of(*drawn(500))
    images, reconstructions, mu = drawn(5)
    if wrong == "reconstruction":
        reconstructions = reconstructions[:, :, ::-1] + 1
    elif wrong == "latent":
        mu = mu + np.array([0, 0, 1])  # ten deviations
    else:  # one that misses next to nothing, but nothing was there
        images, reconstructions = images * 0, images * 0 + 0.01
    assert table.fit(images, reconstructions, mu) == [0] * 5


def test_the_scale_of_pixels_does_not_matter() -> None:
    table, (images, reconstructions, mu) = FitTable.of(*drawn(500)), drawn(20)
    assert table.fit(images, reconstructions, mu) == table.fit(
        images * 255, reconstructions * 255, mu
    )


def test_a_table_goes_through_the_header_and_is_covered_by_the_digest(tmp_path: Path) -> None:
    network, description = make("vae-conv")
    without = save(tmp_path / "without.safetensors", network, description)
    table = FitTable.of(*drawn(200))
    described = dataclasses.replace(description, fit=table)
    assert save(tmp_path / "with.safetensors", network, described) != without
    assert load(tmp_path / "with.safetensors")[1].fit == table
    assert load(tmp_path / "without.safetensors")[1].fit is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"error": [0.1]}, f"error of its fit has 1 quantiles, not {QUANTILES}"),
        ({"rank": [1.0] + [0.0] * 100}, "the quantiles rank of its fit fall"),
        ({"distance": [1] * 101}, "distance of its fit is not a list of floating-point numbers"),
        ({"mean": [0.0, 0.0]}, "its fit is not of latents of 3 numbers"),
        ({"pictures": True}, "its fit is not of latents of 3 numbers"),
        ({"pictures": 0}, "its fit is not of at least 1 picture, or has a deviation of 0"),
        ({"deviation": [1.0, 0.0, 1.0]}, "its fit is not of at least 1 picture, or has"),
        ({"more": 1}, "fields of its fit are not exactly pictures, mean, deviation, error"),
    ],
)
def test_a_table_that_cannot_be_is_refused(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "x.safetensors"
    network, description = make("vae-conv")
    table = FitTable.of(*drawn(200))
    save(path, network, dataclasses.replace(description, fit=table))
    text = json.dumps(dataclasses.asdict(table) | fields)
    with_metadata(path, lambda metadata: metadata.update(fit=text))
    assert refusal(path).startswith(reason)
