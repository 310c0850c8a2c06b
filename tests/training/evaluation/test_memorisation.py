"""Copies of training images are told from what is merely near."""

import dataclasses

import pytest
import torch
from torch import Tensor

from tests.training.evaluation.conftest import Oracle
from training.data.dataset import Dataset
from training.evaluation.metric_docs import memorisation_summary
from training.evaluation.reference import Reference


def test_copies_of_training_images_are_counted(reference: Reference, painted: Dataset) -> None:
    random = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 40, painted.images.shape, generator=random, dtype=torch.uint8)
    test = dataclasses.replace(painted, images=painted.images + noise)
    apart = Reference(reference.judged.judge, painted, test, 40)
    figures = apart.compare(painted.images, painted.labels)
    assert (figures["training_copies"], figures["training_copies_real"]) == (40, 0)
    assert figures["nearest_pixels_ratio"] == pytest.approx(0, abs=0.01)
    assert figures["nearest_pixels_closer"] == 1
    assert figures["memorised"] == 1
    assert figures["memorised_real"] < 1
    figures |= {"samples": 40}
    assert memorisation_summary(figures).startswith(
        "It repeats training images: of 40 samples 40 equal"
    )
    fresh = apart.compare(test.images, test.labels) | {"samples": 40}
    assert memorisation_summary(fresh).startswith(
        "It does not repeat training images: of 40 samples 0"
    )


@pytest.mark.parametrize("alike", [0, 4])
def test_copies_of_training_images_that_are_there_several_times_are_seen(alike: int) -> None:
    """Pictures saved anew, or bursts that differ by a few levels."""
    random = torch.Generator().manual_seed(0)

    def shaken(images: Tensor, levels: int) -> Tensor:
        noise = torch.randint(-levels, levels + 1, images.shape, generator=random)
        return (images.int() + noise).clamp(0, 255).to(torch.uint8)

    apart = torch.randint(0, 256, (60, 1, 8, 8), generator=random, dtype=torch.uint8)
    images = torch.cat([shaken(apart[:30], alike) for _ in range(3)])
    names = tuple("0123456789")
    train = Dataset("bursts", "none", images, torch.arange(90) % 10, names)
    test = Dataset("bursts", "none", apart[30:], torch.arange(30) % 10, names)
    several = Reference(Oracle(), train, test, 40)
    copied = several.compare(shaken(apart[:30], 3), None)
    assert (copied["memorised"], copied["memorised_real"]) == (1, 0)
    verdict = memorisation_summary(copied | {"samples": 30})
    assert verdict.startswith("It repeats training images: of 30 samples 0 equal one")
    fresh = torch.randint(0, 256, (30, 1, 8, 8), generator=random, dtype=torch.uint8)
    assert several.compare(fresh, None)["memorised"] == 0


@pytest.mark.parametrize("levels", [12, 28])
def test_a_class_of_few_images_is_no_picture_that_is_there_several_times(levels: int) -> None:
    """Between its images and the next class lies a gap as well."""
    random = torch.Generator().manual_seed(0)
    means = torch.randint(0, 256, (10, 1, 14, 14), generator=random).float()

    def drawn(each: int, share: float = 1.0) -> tuple[Tensor, Tensor]:
        labels = torch.arange(10).repeat_interleave(each)
        noise = torch.randn((len(labels), 1, 14, 14), generator=random) * levels * share
        return (means[labels] + noise).round().clamp(0, 255).to(torch.uint8), labels

    names = tuple("0123456789")
    train = Dataset("few", "none", *drawn(12), names)
    few = Reference(Oracle(), train, Dataset("few", "none", *drawn(4), names), 40)
    for share in (1.0, 0.3):  # as varied as real ones; and rather alike, as a VAE draws them
        fresh = few.compare(*drawn(6, share))
        assert (fresh["memorised"], fresh["memorised_real"]) == (0, 0)
    near = torch.randint(-1, 2, train.images.shape, generator=random)
    copies = (train.images.int() + near).clamp(0, 255).to(torch.uint8)
    assert few.compare(copies, train.labels)["memorised"] == 1
