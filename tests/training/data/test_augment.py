"""Distorted training images, and the condition that tells the VAE how they were distorted."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.training.tiny import state, train, vae_run
from training.data.augment import LIMITS, ConditionEmbedding, distorted, distortions, kinds
from training.data.dataset import Dataset
from training.loops import vae as train_vae
from training.networks.configs import VaeConfig
from training.networks.vae import VAE
from training.optim.losses import negative_elbo

SHIFT_X, SHIFT_Y, ANGLE, WIDE, HIGH, SHEAR = range(6)


def amounts_of(kind: int, value: float, count: int = 1) -> Tensor:
    """Of one kind alone."""
    amounts = torch.zeros(count, len(LIMITS))
    amounts[:, kind] = value
    return amounts


def square() -> Tensor:
    """8 x 8 white pixels in the middle of 28 x 28 black ones."""
    image = torch.zeros(1, 1, 28, 28)
    image[..., 10:18, 10:18] = 1
    return image


def extent(image: Tensor) -> tuple[int, int]:
    """Rows and columns with something bright in them."""
    bright = image[0, 0] > 0.5
    return int(bright.any(dim=1).sum()), int(bright.any(dim=0).sum())


def test_a_row_of_zeros_leaves_its_image_to_the_bit() -> None:
    images = torch.rand(3, 2, 12, 12)
    amounts = torch.cat([torch.zeros(2, 6), torch.full((1, 6), 0.5)])
    found = distorted(images, amounts)
    assert torch.equal(found[:2], images[:2])
    assert not torch.allclose(found[2], images[2], atol=0.01)


@pytest.mark.parametrize(("kind", "axis"), [(SHIFT_X, 3), (SHIFT_Y, 2)])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_shift_is_two_pixels_of_28(kind: int, axis: int, sign: int) -> None:
    found = distorted(square(), amounts_of(kind, sign))
    assert torch.allclose(found, square().roll(-2 * sign, dims=axis), atol=1e-4)


def test_scales_are_by_axis() -> None:
    assert extent(distorted(square(), amounts_of(WIDE, -1))) == (8, 10)
    assert extent(distorted(square(), amounts_of(HIGH, -1))) == (10, 8)
    assert extent(distorted(square(), amounts_of(WIDE, 1))) == (8, 6)
    assert extent(distorted(square(), amounts_of(HIGH, 1))) == (6, 8)


def test_a_turn_is_about_the_middle_and_keeps_the_size() -> None:
    bar = torch.zeros(1, 1, 28, 28)
    bar[..., 4:24, 13:15] = 1
    one, other = (distorted(bar, amounts_of(ANGLE, sign)) for sign in (1, -1))
    assert torch.allclose(one, other.flip(3), atol=1e-4)
    assert torch.allclose(one, one.flip(2, 3), atol=1e-4)  # as half a turn shows it
    assert one.sum().item() == pytest.approx(bar.sum().item(), rel=0.02)
    columns = torch.arange(28.0)
    top, bottom = ((one[0, 0, row] * columns).sum() / one[0, 0, row].sum() for row in (6, 21))
    assert abs(top - bottom).item() == pytest.approx(15 * torch.tensor(0.25).tan().item(), abs=0.3)


def test_a_shear_moves_rows_against_each_other() -> None:
    found = distorted(square(), amounts_of(SHEAR, 1))[0, 0]
    middle = (found * torch.arange(28.0)).sum(dim=1) / found.sum(dim=1)
    steps = middle[10:18].diff()
    assert torch.allclose(steps, torch.full((7,), -0.2), atol=0.02)


def test_values_stay_in_range_and_the_border_goes_on() -> None:
    found = distorted(torch.ones(20, 3, 9, 9), distortions(20, kinds(1), 1.0, torch.Generator()))
    assert found.max() <= 1
    assert found.min() == pytest.approx(1, abs=1e-5)


def lit(kind: int, images: Tensor) -> Tensor:
    """In the strongest light of one kind."""
    amounts = torch.zeros(len(images), kinds(3))
    amounts[:, len(LIMITS) + kind] = 1
    return distorted(images, amounts)


def test_pictures_in_colour_are_seen_in_other_light() -> None:
    images = 0.3 + 0.2 * torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    brighter, stronger, coloured, warmer = (lit(kind, images) for kind in range(4))
    assert torch.allclose(brighter, images + 0.15, atol=1e-5)
    assert torch.allclose(stronger.mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3)), atol=1e-5)
    spreads = stronger.flatten(1).std(dim=1) / images.flatten(1).std(dim=1)
    assert spreads.tolist() == pytest.approx([1.284, 1.284], abs=1e-2)
    assert torch.allclose(coloured.mean(dim=1), images.mean(dim=1), atol=1e-5)
    assert (coloured.std(dim=1) > 1.4 * images.std(dim=1)).all()
    assert torch.allclose(warmer[:, 0] - images[:, 0], torch.full((), 0.08), atol=1e-5)
    assert torch.allclose(warmer[:, 1], images[:, 1], atol=1e-5)
    assert torch.allclose(images[:, 2] - warmer[:, 2], torch.full((), 0.08), atol=1e-5)


def test_a_colour_vae_is_told_of_the_light() -> None:
    vae = VaeConfig(latent_dim=3, image_size=8, image_channels=3, channels=(4, 4), hidden=8)
    assert ConditionEmbedding(VAE(vae)).kinds == kinds(3) == 10
    assert kinds(1) == 6


def test_a_fraction_of_the_rows_is_distorted() -> None:
    amounts = distortions(4000, 6, 0.3, torch.Generator().manual_seed(0))
    assert amounts.shape == (4000, 6)
    assert amounts.any(dim=1).float().mean().item() == pytest.approx(0.3, abs=0.03)
    drawn = amounts[amounts.any(dim=1)]
    assert drawn.abs().max() <= 1
    assert torch.allclose(drawn.mean(dim=0), torch.zeros(6), atol=0.06)
    assert drawn.min() < -0.95
    assert not distortions(100, 6, 0.0, torch.Generator()).any()


@pytest.mark.parametrize(
    "config",
    [
        VaeConfig(latent_dim=3, image_size=8, channels=(4, 4), hidden=8),
        VaeConfig("dense", latent_dim=3, image_size=8, channels=(12, 9)),
    ],
    ids=["conv", "dense"],
)
def test_the_condition_of_no_distortion_is_0_and_another_reaches_both_networks(
    config: VaeConfig,
) -> None:
    torch.manual_seed(0)
    vae = VAE(config)
    embed = ConditionEmbedding(vae)
    images, noise = torch.rand(2, 1, 8, 8), torch.zeros(2, 3)
    plain = vae(images, noise)
    for one, other in zip(vae(images, noise, embed(torch.zeros(2, 6))), plain, strict=True):
        assert torch.equal(one, other)
    to_encoder, to_decoder = embed(torch.ones(2, 6))
    _, mu, logvar = vae(images, noise, (to_encoder, None))
    assert not torch.allclose(mu, plain[1])
    assert not torch.allclose(logvar, plain[2])
    logits, mu, _ = vae(images, noise, (None, to_decoder))
    assert torch.equal(mu, plain[1])
    assert not torch.allclose(logits, plain[0])


def test_any_amounts_are_rotation_times_shear_times_scale_and_a_shift() -> None:
    images = torch.rand(5, 1, 20, 20)
    amounts = distortions(5, 6, 1.0, torch.Generator().manual_seed(3))
    x, y, angle, across, down, shear = (amounts * torch.tensor(LIMITS)).double().unbind(1)
    maps = []
    for row in range(5):
        cos, sin = angle[row].cos(), angle[row].sin()
        turn = torch.tensor([[cos, -sin], [sin, cos]])
        slant = torch.tensor([[1, shear[row]], [0, 1]])
        scale = torch.tensor([[across[row].exp(), 0], [0, down[row].exp()]])
        shift = torch.tensor([[2 * x[row]], [2 * y[row]]])
        maps.append(torch.cat([turn.double() @ slant.double() @ scale.double(), shift], dim=1))
    places = F.affine_grid(torch.stack(maps).float(), [5, 1, 20, 20], align_corners=False)
    wanted = F.grid_sample(images, places, padding_mode="border", align_corners=False)
    assert torch.allclose(distorted(images, amounts), wanted, atol=1e-4)


def test_a_run_conditions_on_what_it_did_and_does_it_to_fewer_and_fewer(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fractions: list[float] = []
    done: list[tuple[Tensor, Tensor]] = []  # amounts, and the images they led to
    conditions: list[Tensor] = []
    shown: list[Tensor] = []

    def note_fraction(count: int, of: int, fraction: float, noise: torch.Generator) -> Tensor:
        fractions.append(fraction)
        return distortions(count, of, fraction, noise)

    def note_images(images: Tensor, amounts: Tensor) -> Tensor:
        done.append((amounts, distorted(images, amounts)))
        return done[-1][1]

    def note_condition(self: ConditionEmbedding, amounts: Tensor) -> tuple[Tensor, Tensor]:
        conditions.append(amounts)
        return self.to_encoder(amounts), self.to_decoder(amounts)

    def note_shown(*arguments: Any) -> tuple[Tensor, Tensor]:
        shown.append(arguments[1])
        return negative_elbo(*arguments)

    monkeypatch.setattr(train_vae, "distortions", note_fraction)
    monkeypatch.setattr(train_vae, "distorted", note_images)
    monkeypatch.setattr(ConditionEmbedding, "forward", note_condition)
    monkeypatch.setattr(train_vae, "negative_elbo", note_shown)
    run = vae_run(distorted_fraction=0.8, distorted_last=0.2, decay_fraction=1.0)
    train(run, digits, tmp_path)
    assert fractions == pytest.approx([0.2 + 0.6 * (1 - step / 12) for step in range(12)])
    assert len(done) == len(conditions) == len(shown) == 12
    for (amounts, images), condition, seen in zip(done, conditions, shown, strict=True):
        assert torch.equal(amounts, condition)
        assert torch.equal(images, seen)


def test_the_weights_of_the_condition_are_learned(digits: Dataset, tmp_path: Path) -> None:
    settings = vae_run(distorted_fraction=1.0)
    train(settings, digits, tmp_path, 1)
    first = state(tmp_path)
    train(settings, digits, tmp_path)
    last = state(tmp_path)
    for name in ("teller.to_encoder.weight", "teller.to_decoder.weight"):
        assert not torch.equal(first[name], last[name])
