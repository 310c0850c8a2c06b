"""Draws that depend on their seed alone, with labels as often as they are asked for."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.evaluation.conftest import Oracle, Painter, make_cgan
from training.data.dataset import Dataset, to_pixels
from training.evaluation import evaluate as evaluate_module
from training.evaluation.evaluate import Effort, draw, evaluate
from training.evaluation.metric_sensitivity import DAMAGES
from training.evaluation.reference import Reference
from training.networks.configs import VaeConfig
from training.networks.vae import VAE


def test_draws_depend_on_their_seed_alone() -> None:
    network = make_cgan()
    torch.manual_seed(1)
    images, labels = draw(network, 25, seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again, labels_again = draw(network, 25, seed=5)
    assert torch.equal(state, torch.get_rng_state())  # nor do they disturb anyone
    assert torch.equal(images, again)
    assert labels is not None
    assert labels_again is not None
    assert torch.equal(labels, labels_again)
    assert not torch.equal(images, draw(network, 25, seed=6)[0])


def test_draws_are_in_8_bits_and_labels_go_round() -> None:
    images, labels = draw(make_cgan(), 25, seed=5)
    assert images.dtype == torch.uint8
    assert images.shape == (25, 1, 8, 8)
    assert labels is not None
    assert labels.tolist() == [i % 10 for i in range(25)]


def test_unconditional_draws_have_no_labels() -> None:
    vae = VAE(VaeConfig("dense", latent_dim=2, image_size=8, channels=(4,))).eval()
    images, labels = draw(vae.requires_grad_(False), 3, seed=0)
    assert images.shape == (3, 1, 8, 8)
    assert labels is None


@pytest.mark.parametrize("count", [1, 4, 9])
def test_draws_are_as_many_as_asked_for_and_keep_their_labels_over_batches(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(evaluate_module, "BATCH", 4)
    images, labels = draw(Painter(), count, seed=0)
    assert labels is not None
    assert len(images) == len(labels) == count
    oracle = Oracle()
    assert oracle.classify(oracle.features(to_pixels(images))).argmax(1).tolist() == labels.tolist()


@pytest.mark.parametrize("samples", [20, 40])
def test_labels_are_asked_for_as_often_as_real_images_beside_them_have_them(
    painted: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: int
) -> None:
    """Half of the real images stand for all where 20 do: then theirs count."""
    labels = torch.tensor([0] * 24 + [1] * 12 + [2] * 4)
    uneven = dataclasses.replace(painted, labels=labels, images=painted.images.clone())
    reference = Reference(Oracle(), uneven, painted, samples, tmp_path)
    seen: dict[str, list[int]] = {}
    for name in ("compare", "compare_by_cas"):

        def kept(_levels: Tensor, asked: Tensor, name: str = name) -> dict[str, Any]:
            seen[name] = torch.bincount(asked, minlength=10).tolist()
            return {}

        monkeypatch.setattr(reference, name, kept)
    effort = Effort(samples=samples, cas_images=30, nll_samples=0)
    evaluate(Painter(), reference, effort)
    beside = labels[reference.chosen]
    assert len(beside) == samples
    assert seen["compare"] == torch.bincount(beside, minlength=10).tolist()
    assert (
        seen["compare_by_cas"]
        == torch.bincount(labels[reference.order[:30]], minlength=10).tolist()
    )


def test_levelled_labels_come_equally_often() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2] * 3)
    images = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1)
    shown, given = DAMAGES["equal labels"](images, labels)
    assert torch.bincount(given).tolist() == [4, 4, 4]
    assert shown.flatten().tolist() == [0, 1, 2, 3, 6, 7, 8, 6, 9, 10, 11, 9]
    assert torch.equal(labels[shown.flatten().long()], given)
