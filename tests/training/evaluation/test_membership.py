"""Membership inference finds what a network remembers, and nothing where it remembers nothing."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.evaluation.conftest import Oracle
from training.data.dataset import Dataset
from training.evaluation.membership import attack_by_distance, attack_by_loss, inference
from training.evaluation.reference import Reference
from training.networks.configs import VaeConfig
from training.networks.vae import VAE


def test_the_area_counts_pairs_and_a_tie_is_half_of_one() -> None:
    auc, tpr = inference(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0.0, 2.0]))
    assert auc == pytest.approx((2 + 1 + 1.5) / 6)
    assert tpr == pytest.approx(1 / 3)  # above both others: 1 % of two is none


def test_one_in_a_hundred_of_the_others_may_be_mistaken() -> None:
    others = torch.arange(200.0)
    assert inference(torch.tensor([198.0, 197.5, 197.0, 50.0]), others).tpr == 0.5
    assert inference(others, others) == (0.5, 2 / 200)


def noise(count: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 8, 8, generator=random)


def test_a_generator_that_repeats_its_training_images_gives_all_of_them_away() -> None:
    points = noise(300, 0).flatten(1)
    members, others, fresh = points.split(100)
    near = members[torch.randperm(100)] + 0.01
    assert attack_by_distance(near, members, others) == (1, 1)
    assert attack_by_distance(fresh, members, others).auc == pytest.approx(0.5, abs=0.1)


def test_a_vae_that_has_learnt_images_by_heart_gives_them_away() -> None:
    torch.manual_seed(0)
    vae = VAE(VaeConfig("dense", 2, image_size=8, channels=(8,)))
    members, others = noise(60, 1), noise(60, 2)
    before = attack_by_loss(vae, members, others, 0)
    assert before.auc == pytest.approx(0.5, abs=0.15)
    for parameter in vae.parameters():
        torch.nn.init.zeros_(parameter)
    # Its decoder gives the mean of the members for every z.
    layer = vae.decoder.trunk[-2]
    assert isinstance(layer, torch.nn.Linear)
    layer.bias.data = members[:1].logit(1e-6).flatten()
    alone = attack_by_loss(vae, members[:1], others, 0)
    assert alone == (1, 1)


def test_members_are_training_images_and_real_images_stand_in_for_samples(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 8, 8), generator=random, dtype=torch.uint8)
    labels, names = torch.arange(60) % 10, tuple("0123456789")
    train = Dataset("made-up", "none", images[:40], labels[:40], names)
    test = Dataset("made-up", "none", images[40:], labels[40:], names)
    reference = Reference(Oracle(), train, test, 30, tmp_path)
    assert len(reference.members) == 20
    copied = reference.compare(train.images, train.labels)
    assert (copied["membership_auc"], copied["membership_tpr"]) == (1, 1)
    # None of the images that stand in for samples is a member.
    assert 0.2 < copied["membership_auc_real"] < 0.8
    assert copied["membership_tpr_real"] < 0.5
