"""Each loss against values worked out by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from training.optim.losses import (
    ADVERSARIAL,
    discriminator_loss,
    generator_loss,
    gradient_penalty_r1,
    kl_to_standard_normal,
    log_posterior,
    negative_bound,
    negative_elbo,
    reconstruction_nats,
)

REAL = torch.tensor([2.0, -1.0, 0.0])
FAKE = torch.tensor([-3.0, 0.5, 0.0])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_nonsaturating_discriminator_loss_is_cross_entropy_with_real_1_and_fake_0() -> None:
    real = -sum(math.log(sigmoid(x)) for x in (2.0, -1.0, 0.0)) / 3
    fake = -sum(math.log(1 - sigmoid(x)) for x in (-3.0, 0.5, 0.0)) / 3
    assert discriminator_loss("nonsaturating", REAL, FAKE).item() == pytest.approx(real + fake)


def test_hinge_discriminator_loss_by_hand() -> None:
    # Real: max(0, 1 - x) = 0, 2, 1. Fake: max(0, 1 + x) = 0, 1.5, 1.
    assert discriminator_loss("hinge", REAL, FAKE).item() == pytest.approx(3 / 3 + 2.5 / 3)


def test_an_undecided_discriminator_scores_twice_log_2() -> None:
    zeros = torch.zeros(4)
    assert discriminator_loss("nonsaturating", zeros, zeros).item() == pytest.approx(
        2 * math.log(2)
    )


def test_nonsaturating_generator_loss_is_minus_log_of_being_judged_real() -> None:
    expected = -sum(math.log(sigmoid(x)) for x in (-3.0, 0.5, 0.0)) / 3
    assert generator_loss("nonsaturating", FAKE).item() == pytest.approx(expected)


def test_hinge_generator_loss_is_minus_the_mean_logit() -> None:
    assert generator_loss("hinge", FAKE).item() == pytest.approx(2.5 / 3)


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_generator_loss_falls_as_fake_logits_rise(kind: str) -> None:
    losses = [
        generator_loss(kind, torch.full((3,), x)).item() for x in (-20.0, -5.0, 0.0, 1.0, 5.0)
    ]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == len(losses)


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_a_step_down_the_generator_loss_pushes_every_fake_logit_up(kind: str) -> None:
    logits = torch.tensor([-30.0, -2.0, 0.0, 2.0], requires_grad=True)
    generator_loss(kind, logits).backward()
    assert logits.grad is not None
    assert (logits.grad < 0).all()
    # The point of "nonsaturating": a hopeless fake still gets the whole gradient, 1 / B.
    assert logits.grad[0].item() == pytest.approx(-0.25)


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_a_step_down_the_discriminator_loss_pushes_real_up_and_fake_down(kind: str) -> None:
    real, fake = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    discriminator_loss(kind, real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_adversarial_losses_of_extreme_logits_are_finite(kind: str) -> None:
    extreme = torch.tensor([-1e4, 1e4])
    assert discriminator_loss(kind, extreme, extreme).isfinite()
    assert generator_loss(kind, extreme).isfinite()


def test_an_unknown_adversarial_loss_is_refused_with_its_name_and_the_known_ones() -> None:
    message = "'wgan'; available: nonsaturating, hinge"
    with pytest.raises(ValueError, match=message):
        discriminator_loss("wgan", REAL, FAKE)
    with pytest.raises(ValueError, match=message):
        generator_loss("wgan", FAKE)


def test_r1_of_a_linear_discriminator_is_half_its_squared_weight() -> None:
    linear = nn.Linear(2 * 3 * 3, 1)
    images = torch.rand(5, 2, 3, 3, requires_grad=True)
    r1 = gradient_penalty_r1(linear(images.flatten(1)).squeeze(1), images)
    assert r1.item() == pytest.approx(linear.weight.square().sum().item() / 2)


def test_r1_of_a_square_is_half_the_mean_of_squared_gradients() -> None:
    images = torch.rand(4, 1, 2, 2, requires_grad=True)
    r1 = gradient_penalty_r1(images.square().sum(dim=(1, 2, 3)), images)
    assert r1.item() == pytest.approx((2 * images).square().sum().item() / 4 / 2)


def test_r1_can_be_trained_down() -> None:
    weight = torch.tensor([3.0], requires_grad=True)
    images = torch.rand(4, 1, 2, 2, requires_grad=True)
    gradient_penalty_r1(weight * images.sum(dim=(1, 2, 3)), images).backward()  # 4 w^2 / 2
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(4 * 3.0)


def test_reconstruction_is_summed_over_pixels_and_not_over_images() -> None:
    logits = torch.zeros(3, 2, 4, 4)
    nats = reconstruction_nats(logits, torch.rand(3, 2, 4, 4))
    assert nats.tolist() == pytest.approx([32 * math.log(2)] * 3)


def test_reconstruction_of_one_grey_pixel_by_hand() -> None:
    p, x = sigmoid(1.5), 0.25
    expected = -(x * math.log(p) + (1 - x) * math.log(1 - p))
    nats = reconstruction_nats(torch.full((1, 1, 1, 1), 1.5), torch.full((1, 1, 1, 1), x))
    assert nats.item() == pytest.approx(expected)


def test_kl_is_zero_at_the_prior_and_only_there() -> None:
    zeros = torch.zeros(4, 3)
    assert kl_to_standard_normal(zeros, zeros).tolist() == [0.0] * 4
    random = torch.Generator().manual_seed(0)
    mu, logvar = (torch.randn(100, 3, generator=random) for _ in range(2))
    assert (kl_to_standard_normal(mu, logvar) > 0).all()


def test_kl_is_one_value_an_image_summed_over_the_latent() -> None:
    mu = torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 3.0]])
    logvar = torch.log(torch.tensor([[1.0, 1.0], [1.0, 4.0], [0.5, 1.0]]))
    # Per dimension: (mu^2 + var - 1 - log var) / 2.
    expected = [
        1 / 2 + 4 / 2,
        (4 - 1 - math.log(4)) / 2,
        (0.5 - 1 - math.log(0.5)) / 2 + 9 / 2,
    ]
    kl = kl_to_standard_normal(mu, logvar)
    assert kl.shape == (3,)
    assert kl.tolist() == pytest.approx(expected)


def test_kl_is_what_drawing_from_the_posterior_estimates() -> None:
    mu, logvar = torch.tensor([[0.7, -1.2]]), torch.tensor([[-0.8, 0.5]])
    random = torch.Generator().manual_seed(0)
    posterior = torch.distributions.Normal(mu, (logvar / 2).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    z = mu + (logvar / 2).exp() * torch.randn(200_000, 2, generator=random)
    ratios: Tensor = (posterior.log_prob(z) - prior.log_prob(z)).sum(1)
    # Standard error: deviation over the square root of the draws; five of them.
    error = 5 * ratios.std().item() / math.sqrt(200_000)
    assert kl_to_standard_normal(mu, logvar).item() == pytest.approx(
        ratios.mean().item(), abs=error
    )


def test_kl_of_unequal_shapes_is_refused_with_both() -> None:
    with pytest.raises(ValueError, match=r"mu is \(4, 3\), logvar is \(4, 1\)"):
        kl_to_standard_normal(torch.zeros(4, 3), torch.zeros(4, 1))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 4.0])
def test_negative_elbo_is_reconstruction_plus_beta_times_kl(beta: float) -> None:
    random = torch.Generator().manual_seed(0)
    logits, images = torch.randn(3, 1, 4, 4, generator=random), torch.rand(3, 1, 4, 4)
    mu, logvar = torch.randn(3, 2, generator=random), torch.randn(3, 2, generator=random)
    kl = kl_to_standard_normal(mu, logvar)
    total, reconstruction = negative_elbo(logits, images, kl, beta)
    torch.testing.assert_close(reconstruction, reconstruction_nats(logits, images))
    torch.testing.assert_close(total, reconstruction + beta * kl)
    assert total.shape == (3,)


def test_negative_elbo_weighs_the_kl_by_1_unless_told() -> None:
    zeros, kl = torch.zeros(1, 1, 1, 1), torch.ones(1)
    assert negative_elbo(zeros, zeros, kl)[0].item() == pytest.approx(math.log(2) + 1)


def test_the_bound_of_several_draws_is_the_mean_of_their_weights() -> None:
    weights = torch.tensor([[1.0, 2.0, 6.0], [3.0, 3.0, 3.0]]).log()
    torch.testing.assert_close(negative_bound(weights), -torch.tensor([3.0, 3.0]).log())
    one = torch.tensor([[-93.7], [-81.2]])
    assert torch.equal(negative_bound(one), -one[:, 0])  # of one draw it is the negative ELBO
    far = torch.tensor([[-5000.0, -100.0]])  # next to nothing beside the other: no overflow
    torch.testing.assert_close(negative_bound(far), torch.tensor([100 + math.log(2)]))


def test_draws_count_by_their_weight() -> None:
    weights = torch.tensor([[1.0, 2.0, 7.0]]).log().requires_grad_()
    negative_bound(weights).sum().backward()
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad, -torch.tensor([[0.1, 0.2, 0.7]]))


def test_the_log_posterior_of_a_draw_is_the_normals_log_density() -> None:
    random = torch.Generator().manual_seed(0)
    mu, logvar, noise = (torch.randn(3, 2, generator=random) for _ in range(3))
    normal = torch.distributions.Normal(mu, torch.exp(logvar / 2))
    expected = normal.log_prob(mu + noise * torch.exp(logvar / 2)).sum(dim=1)
    torch.testing.assert_close(log_posterior(noise, logvar), expected)
