"""Adversarial losses, the terms of the negative ELBO, and the tighter bound of several draws."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ADVERSARIAL = ("nonsaturating", "hinge")


def discriminator_loss(kind: str, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What the discriminator minimises, the mean over the batch.

    Args:
        kind: ``nonsaturating`` is binary cross-entropy with targets 1 for real and 0 for fake
            (Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1); ``hinge`` is
            Lim & Ye 2017 (arXiv:1705.02894).
        real_logits, fake_logits: (B,), high = real.

    Raises:
        ValueError: the kind is not in ADVERSARIAL.
    """
    if kind == "nonsaturating":
        # -log sigmoid(x) = softplus(-x) and -log(1 - sigmoid(x)) = softplus(x), without overflow.
        return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
    if kind == "hinge":
        return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()
    raise ValueError(f"unknown adversarial loss {kind!r}; available: {', '.join(ADVERSARIAL)}")


def generator_loss(kind: str, fake_logits: Tensor) -> Tensor:
    """What the generator minimises: its images judged against the target *real*.

    ``nonsaturating`` is -log D(G(z)), whose gradient does not vanish while the discriminator
    wins (Goodfellow et al. 2014, section 3); ``hinge`` is -D(G(z)).

    Raises:
        ValueError: the kind is not in ADVERSARIAL.
    """
    if kind == "nonsaturating":
        return F.softplus(-fake_logits).mean()
    if kind == "hinge":
        return -fake_logits.mean()
    raise ValueError(f"unknown adversarial loss {kind!r}; available: {', '.join(ADVERSARIAL)}")


def gradient_penalty_r1(real_logits: Tensor, real_images: Tensor) -> Tensor:
    """R1: half the squared norm of the logit's gradient at real images, the mean over the batch.

    ``real_images`` (B, C, H, W) must require gradients and have led to ``real_logits`` (B,).
    Multiply by gamma. Source: Mescheder et al. 2018, arXiv:1801.04406, equation 9.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real_images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() / 2


def reconstruction_nats(logits: Tensor, images: Tensor) -> Tensor:
    """Negative log-likelihood of the pixels under independent Bernoullis, in nats per image.

    Args:
        logits: (B, C, H, W).
        images: (B, C, H, W) in [0, 1]; grey levels count as the expectation over binarisations.

    Returns:
        (B,): summed over pixels, not averaged, so that it stands on one scale with the KL.
    """
    return F.binary_cross_entropy_with_logits(logits, images, reduction="none").sum(dim=(1, 2, 3))


def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence from N(mu, exp(logvar)) to N(0, I), in nats per image.

    -1/2 sum(1 + logvar - mu^2 - exp(logvar)) over the latent's dimensions.

    Args:
        mu, logvar: Posterior mean and log-variance, (B, Z).

    Returns:
        One value per image, (B,), never negative up to rounding.

    Raises:
        ValueError: the two shapes differ; the message gives both.

    Source: Kingma & Welling 2014, arXiv:1312.6114, appendix B.
    """
    if mu.shape != logvar.shape:
        raise ValueError(f"mu is {tuple(mu.shape)}, logvar is {tuple(logvar.shape)}")
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(dim=1)


def log_posterior(noise: Tensor, logvar: Tensor) -> Tensor:
    """Log-density of z = mu + noise exp(logvar / 2) under N(mu, exp(logvar)), in nats.

    Args:
        noise, logvar: (..., Z), or shapes that broadcast.

    Returns:
        (...): summed over the latent's dimensions.
    """
    return -0.5 * (noise.square() + logvar + math.log(2 * math.pi)).sum(dim=-1)


def negative_elbo(
    logits: Tensor, images: Tensor, kl: Tensor, beta: float = 1.0
) -> tuple[Tensor, Tensor]:
    """(negative ELBO, its reconstruction term), each (B,) in nats per image.

    Args:
        kl: From posterior to prior, (B,): ``kl_to_standard_normal``, or where the prior is learned
            log q(z|x) - log p(z) of the draw that was decoded.
        beta: Weighs the KL; only 1 is the ELBO.
    """
    reconstruction = reconstruction_nats(logits, images)
    return reconstruction + beta * kl, reconstruction


def negative_bound(log_weights: Tensor) -> Tensor:
    """The importance-weighted bound of K draws an image, negative, (B, K) -> (B,), in nats.

    -log mean exp of the weights: the negative ELBO for one draw, and for more in expectation the
    closer to the negative log-likelihood, from above. Source: Burda et al. 2016, arXiv:1509.00519,
    equation 8.

    Args:
        log_weights: log p(x|z) + log p(z) - log q(z|x) of z ~ q(z|x).
    """
    return math.log(log_weights.shape[1]) - torch.logsumexp(log_weights, dim=1)
