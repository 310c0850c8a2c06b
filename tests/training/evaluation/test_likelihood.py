"""The likelihood against an integral; the other figures of a VAE against their definitions."""

import math

import pytest
import torch
from torch import Tensor

from training.evaluation import likelihood
from training.evaluation.likelihood import (
    active_units,
    binarised,
    check_effort,
    elbo_terms,
    encodings,
    importance_nll,
    importance_weights,
    kl_per_dimension,
    structural_similarity,
)
from training.networks.configs import VaeConfig
from training.networks.vae import VAE
from training.optim.losses import kl_to_standard_normal, reconstruction_nats


def make_vae(prior_layers: int = 0) -> VAE:
    """Two latents that matter to the pixels; a prior that is far from N(0, I) if it has layers."""
    torch.manual_seed(0)
    config = VaeConfig("dense", 2, image_size=8, channels=(8,), prior_layers=prior_layers)
    vae = VAE(config)
    for parameter in vae.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    for parameter in vae.prior.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return vae.eval().requires_grad_(False)


@pytest.fixture
def images() -> Tensor:
    """(12, 1, 8, 8) in [0, 1]."""
    return torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def integrated(vae: VAE, images: Tensor) -> Tensor:
    """-log of the integral of p(x|z) p(z) over a grid of z, (N,)."""
    side = torch.linspace(-7, 7, 201)
    z = torch.cartesian_prod(side, side)
    logits, log_prior = vae.decoder(z), vae.prior.log_prob(z).double()
    cell = 2 * math.log(float(side[1] - side[0]))
    found = []
    for image in images:
        log_joint = log_prior - reconstruction_nats(logits, image.expand(len(z), -1, -1, -1))
        found.append(-(torch.logsumexp(log_joint, 0) + cell))
    return torch.stack(found)


@pytest.mark.parametrize("prior_layers", [0, 2])
def test_importance_sampling_finds_the_integral(prior_layers: int, images: Tensor) -> None:
    vae = make_vae(prior_layers)
    exact = integrated(vae, images[:4])
    weights = importance_weights(vae, images[:4], 40_000, seed=0).double()
    nll = math.log(40_000) - torch.logsumexp(weights, dim=1)
    torch.testing.assert_close(nll, exact, rtol=0, atol=0.15)
    assert bool((-weights.mean(dim=1) > exact).all())  # the negative ELBO lies above it


def test_more_draws_come_nearer_from_above(images: Tensor) -> None:
    vae = make_vae()
    found = [importance_nll(vae, images, samples, 12, seed=0).nll for samples in (1, 30, 3000)]
    assert found[0] > found[1] > found[2] > float(integrated(vae, images).mean()) - 0.1


def test_weights_do_not_depend_on_how_rows_are_batched(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = make_vae(2)
    whole = importance_weights(vae, images, 10, seed=3)
    assert whole.shape == (12, 10)
    for rows in (4, 25):  # an image in three parts; two images at once
        monkeypatch.setitem(likelihood.ROWS, "cpu", rows)
        torch.testing.assert_close(importance_weights(vae, images, 10, seed=3), whole)


def test_images_that_are_not_weighed_count_as_their_elbo_less_the_mean_gap() -> None:
    vae = make_vae()
    random = torch.Generator().manual_seed(0)
    images = binarised(vae.decode(torch.randn(2000, 2, generator=random)), seed=0)
    whole = importance_nll(vae, images, 200, 5000, seed=0)
    part = importance_nll(vae, images, 200, 200, seed=0)
    assert (whole.images, whole.standard_error) == (2000, 0)
    assert part.images == 200
    assert 0 < part.standard_error < 1
    assert abs(part.nll - whole.nll) < 3 * part.standard_error


@pytest.mark.parametrize(("samples", "weighed"), [(1, 5), (5, 1)])
def test_too_few_for_a_standard_error_are_refused(
    samples: int, weighed: int, images: Tensor
) -> None:
    with pytest.raises(ValueError, match=f"{samples} draws for each of {weighed} of 12 images"):
        importance_nll(make_vae(), images, samples, weighed, seed=0)
    with pytest.raises(ValueError, match="give no standard error"):
        check_effort(samples, weighed, len(images))


def test_the_elbo_is_its_definition(images: Tensor) -> None:
    vae = make_vae()
    many = images[:1].expand(4000, -1, -1, -1)
    recon, kl = elbo_terms(vae, many, seed=0)
    mu, logvar = vae.encode(images[:1])
    assert float(kl.mean()) == pytest.approx(float(kl_to_standard_normal(mu, logvar)), abs=0.1)
    weights = importance_weights(vae, images[:1], 4000, seed=1)
    assert float((recon + kl).mean()) == pytest.approx(-float(weights.mean()), rel=0.02)


def test_binarised_pixels_are_drawn_by_their_grey_once_for_all() -> None:
    grey = torch.full((50, 1, 28, 28), 0.3)
    grey[:, :, :2] = 0
    grey[:, :, 26:] = 1
    drawn = binarised(grey, seed=1)
    assert drawn.unique().tolist() == [0, 1]
    assert float(drawn[:, :, 2:26].mean()) == pytest.approx(0.3, abs=0.01)
    assert float(drawn[:, :, :2].max()) == 0
    assert float(drawn[:, :, 26:].min()) == 1
    assert torch.equal(drawn, binarised(grey, seed=1))
    assert not torch.equal(drawn, binarised(grey, seed=2))


def test_units_are_active_whose_mean_varies_by_more_than_a_hundredth() -> None:
    wave = torch.tensor([-1.0, 1.0]).repeat(500)
    mu = torch.stack([wave, wave * 0.101, wave * 0.099, torch.full_like(wave, 5)], dim=1)
    assert active_units(mu) == 2


def test_the_kl_of_the_dimensions_adds_up(images: Tensor) -> None:
    mu, logvar = encodings(make_vae(), images)
    each = kl_per_dimension(mu, logvar)
    assert len(each) == 2
    assert sum(each) == pytest.approx(float(kl_to_standard_normal(mu, logvar).mean()), rel=1e-5)
    assert kl_per_dimension(torch.tensor([[2.0]]), torch.zeros(1, 1)) == [2]


@pytest.mark.parametrize("side", [8, 28])
def test_similarity_is_1_for_equal_images_and_falls_with_noise(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(6, 1, side, side, generator=random)
    noise = torch.randn(images.shape, generator=random)
    found = [structural_similarity(images + s * noise, images) for s in (0, 0.1, 0.5)]
    assert found[0] == pytest.approx(1)
    assert 1 > found[1] > found[2] > 0
    monkeypatch.setattr(likelihood, "BATCH", 4)
    assert structural_similarity(images + 0.1 * noise, images) == pytest.approx(found[1])
