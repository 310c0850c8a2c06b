"""Modes as frequent as the classes that taught them."""

import dataclasses

import pytest
import torch
from torch import Tensor

from training.data.dataset import Dataset
from training.evaluation.measures import class_shares, labels_by_share
from training.networks.configs import GanConfig
from training.networks.gan import Generator
from training.release.class_frequencies import LEAST_SHARE, offsets_for, with_class_frequencies


@pytest.mark.parametrize(
    "shares", [[0.5, 0.5], [0.9, 0.1], [0.6, 0.3, 0.08, 0.02], [0.1] * 10, [0.999, 0.001]]
)
def test_numbers_are_the_largest_as_often_as_their_shares_say(shares: list[float]) -> None:
    offsets = torch.tensor(offsets_for(torch.tensor(shares)))
    z = torch.randn(200_000, len(shares), generator=torch.Generator().manual_seed(0))
    found = class_shares((z + offsets).argmax(dim=1), len(shares))
    torch.testing.assert_close(found, torch.tensor(shares).double(), rtol=0, atol=0.004)
    assert abs(float(offsets.mean())) < 1e-5


def test_a_class_without_images_is_rare_and_not_impossible() -> None:
    offsets = offsets_for(torch.tensor([0.0, 0.4, 0.6]))
    z = torch.randn(400_000, 3, generator=torch.Generator().manual_seed(0))
    found = class_shares((z + torch.tensor(offsets)).argmax(dim=1), 3)
    assert 0 < found[0] < 5 * LEAST_SHARE


def test_a_network_without_modes_is_left_as_it_is(digits: Dataset) -> None:
    network = Generator(GanConfig(latent_dim=4, image_size=8, channels=(4, 4))).eval()
    assert with_class_frequencies(network, digits) is network


def test_a_network_with_modes_draws_them_as_the_images_are(digits: Dataset) -> None:
    rare = digits.labels == 3
    keep = ~rare | (torch.arange(len(rare)) % 4 == 0)  # a fourth of the threes
    few = dataclasses.replace(digits, images=digits.images[keep], labels=digits.labels[keep])
    config = GanConfig(latent_dim=12, image_size=8, channels=(4, 4), modes=10)
    network = Generator(config).eval()
    found = with_class_frequencies(network, few)
    assert isinstance(found, Generator)
    assert not found.training
    assert config.mode_offsets == ()  # the other is as it was
    z = torch.randn(100_000, 12, generator=torch.Generator().manual_seed(1))
    wanted = class_shares(few.labels, 10)
    drawn = class_shares(found.chosen_modes(z), 10)
    torch.testing.assert_close(drawn, wanted, rtol=0, atol=0.005)
    assert wanted[3] < 0.05


@pytest.mark.parametrize(
    ("shares", "count", "expected"),
    [
        ([0.5, 0.5], 4, [0, 1, 0, 1]),
        ([1 / 3, 1 / 3, 1 / 3], 7, [0, 1, 2, 0, 1, 2, 0]),
        ([0.75, 0.25], 4, [0, 0, 1, 0]),
        ([0.6, 0.0, 0.4], 5, [0, 2, 0, 2, 0]),
        ([1.0, 0.0], 3, [0, 0, 0]),
        ([0.5, 0.5], 0, []),
    ],
)
def test_labels_by_share(shares: list[float], count: int, expected: list[int]) -> None:
    assert labels_by_share(torch.tensor(shares), count).tolist() == expected


def test_labels_by_share_are_within_one_of_their_shares() -> None:
    noise = torch.Generator().manual_seed(0)
    for count in (1, 9, 100, 1237):
        shares: Tensor = torch.rand(23, generator=noise).softmax(0)
        found = torch.bincount(labels_by_share(shares, count), minlength=23)
        assert int(found.sum()) == count
        assert (found - shares * count).abs().max() < 1
