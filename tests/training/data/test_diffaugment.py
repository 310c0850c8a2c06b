"""Augmentation that the discriminator sees and the generator does not learn."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.tiny import assert_same, gan_run, lines, state, train
from training.data.dataset import Dataset, balanced_order
from training.data.diffaugment import (
    AUGMENTATIONS,
    BRIGHTNESS,
    AdaptiveProbability,
    augmented,
    draw_amounts,
    parse_augmentations,
)


def images(count: int = 4, side: int = 16) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, side, side, generator=random) * 0.9 + 0.1  # nothing is black


def changed(name: str, given: Tensor, first: float, second: float = 0.5) -> Tensor:
    """One augmentation, with the same amounts for each image."""
    amounts = torch.tensor([first, second, 0.0]).expand(len(given), 1, 3)
    return augmented(given, (name,), amounts, 1.0)


def test_they_do_what_they_are_called() -> None:
    given = images()
    torch.testing.assert_close(changed("flip", given, 0.4), given.flip(3))
    torch.testing.assert_close(changed("flip", given, 0.6), given)
    torch.testing.assert_close(changed("brightness", given, 0.0), given - BRIGHTNESS)
    grey = given.mean(1, keepdim=True)
    torch.testing.assert_close(changed("saturation", given, 0.0), grey.expand_as(given))
    mean = given.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(changed("contrast", given, 0.5), given)
    torch.testing.assert_close(changed("contrast", given, 0.0), (given + mean) / 2)


def test_a_translation_moves_by_whole_pixels_and_brings_in_black() -> None:
    given = images()
    still = changed("translation", given, 0.5, 0.5)
    torch.testing.assert_close(still, given)
    up = changed("translation", given, 0.999, 0.5)  # by an eighth: two of 16 rows
    torch.testing.assert_close(up[:, :, :-2], given[:, :, 2:])
    assert float(up[:, :, -2:].abs().max()) == 0
    right = changed("translation", given, 0.5, 0.0)
    torch.testing.assert_close(right[..., 2:], given[..., :-2])


def test_a_cutout_is_a_black_square_of_half_the_side_or_less_at_the_border() -> None:
    given = images()
    for first, second in ((0.5, 0.5), (0.0, 0.99), (0.3, 0.8)):
        cut = changed("cutout", given, first, second)
        black = cut == 0
        assert 16 <= int(black[0, 0].sum()) <= 64
        torch.testing.assert_close(cut[~black], given[~black])
    assert int((changed("cutout", given, 0.5) == 0)[0, 0].sum()) == 64


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_gradient_passes_through_and_each_image_has_its_own_change(name: str) -> None:
    given = images(16).requires_grad_()
    noise = torch.Generator().manual_seed(1)
    amounts = draw_amounts((name,), 16, noise)
    shown = augmented(given, (name,), amounts, 0.5)
    same = (shown == given).flatten(1).all(1)
    assert 0 < int(same.sum()) < 16
    (gradient,) = torch.autograd.grad(shown.square().sum(), given)
    assert torch.isfinite(gradient).all()
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    untouched = augmented(given, (name,), amounts, 0.0)
    assert torch.equal(untouched, given)


def test_names_are_sorted_and_unknown_ones_refused() -> None:
    assert parse_augmentations("") == ()
    assert parse_augmentations("cutout,flip") == ("flip", "cutout")
    with pytest.raises(ValueError, match="unknown augmentation 'rotate'; available, with commas"):
        gan_run(augment="flip,rotate")


def test_the_probability_rises_while_the_discriminator_overfits_and_falls_otherwise() -> None:
    adaptive = AdaptiveProbability(0.0, 0.6, images=100)
    for _ in range(4):
        adaptive.update(0.9, 5)
    assert adaptive.value == pytest.approx(0.2)  # 20 of 100 images
    for _ in range(3):
        adaptive.update(0.1, 5)
    again = AdaptiveProbability(0.5, 0.6, images=100)
    again.restore(adaptive.carried())
    for one in (adaptive, again):
        one.update(0.1, 5)
        assert one.value == pytest.approx(0.0)
        for _ in range(40):
            one.update(-1.0, 5)
        assert one.value == 0.0
    fixed = AdaptiveProbability(0.3, 0.0, images=1)
    fixed.update(1.0, 5)
    assert fixed.value == 0.3


def test_a_run_that_adapts_resumes_to_the_bit(digits: Dataset, tmp_path: Path) -> None:
    settings = gan_run(
        num_classes=10,
        augment="brightness,translation,cutout",
        augment_probability=0.5,
        augment_target=0.6,
        augment_images=400,
        balanced_labels=1,
    )
    train(settings, digits, tmp_path / "whole")
    train(settings, digits, tmp_path / "parts", 6)  # between two changes of the probability
    train(settings, digits, tmp_path / "parts")
    assert_same(state(tmp_path / "whole"), state(tmp_path / "parts"))
    seen = [line["augment_probability"] for line in lines(tmp_path / "whole")]
    assert len(set(seen)) > 1
    assert seen[-1] == lines(tmp_path / "parts")[-1]["augment_probability"]
    never = dataclasses.replace(settings, augment="", augment_target=0.0)
    train(never, digits, tmp_path / "never")
    one, other = (state(tmp_path / name) for name in ("whole", "never"))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_balanced_images_have_each_class_equally_often_in_any_stretch() -> None:
    labels = torch.tensor([0] * 50 + [1] * 5 + [2] * 5)
    order = balanced_order(labels, 3, 0)
    assert len(order) == 60
    for start in range(0, 60, 3):
        assert sorted(labels[order[start : start + 3]].tolist()) == [0, 1, 2]
    # Every image of a rare class comes once before one comes again.
    rare = [int(i) for i in order if labels[i] == 1]
    assert sorted(rare[:5]) == sorted(rare[5:10]) == list(range(50, 55))
    assert torch.equal(order, balanced_order(labels, 3, 0))
    assert not torch.equal(order, balanced_order(labels, 3, 1))
