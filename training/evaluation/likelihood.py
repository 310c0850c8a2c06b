"""Figures of a VAE: likelihood of the test images, reconstructions, use of the latent space."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.data.dataset import import_torchvision
from training.networks.vae import VAE
from training.optim.losses import (
    kl_to_standard_normal,
    log_posterior,
    negative_bound,
    reconstruction_nats,
)
from training.runs.progress import progress_of

BATCH = 500
# Rows decoded at once in importance sampling. A CPU core slows down when a layer's maps do not fit
# into its cache (335 us a row at 250 rows, 825 at 4,000); a GPU needs thousands to be busy.
ROWS = {"cpu": 250, "cuda": 8000}
ACTIVE_VARIANCE = 0.01


def binarised(images: Tensor, seed: int) -> Tensor:
    """Each pixel of (N, C, H, W) in [0, 1] sampled as 1 with its own probability, else 0.

    One fixed draw of dynamic binarisation (Burda et al. 2016, section 5.1).
    """
    random = torch.Generator().manual_seed(seed)
    return (torch.rand(images.shape, generator=random).to(images.device) < images).float()


def elbo_terms(vae: VAE, images: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Reconstruction and KL of the negative ELBO, (N,) each, in nats: one draw of z an image.

    Args:
        vae: In eval mode.
        images: (N, C, H, W) in [0, 1], on the VAE's device, as in every function here.
        seed: Of the draws.

    The KL to the VAE's prior has no closed form if that is a flow, so it is estimated from the same
    draw: log q(z|x) - log p(z).
    """
    noise = torch.Generator().manual_seed(seed)
    recons, kls = [], []
    for part in images.split(BATCH):
        epsilon = torch.randn(len(part), vae.latent_dim, generator=noise).to(part.device)
        logits, mu, logvar = vae(part, epsilon)
        z = mu + epsilon * torch.exp(logvar / 2)
        recons.append(reconstruction_nats(logits, part))
        kls.append(log_posterior(epsilon, logvar) - vae.prior.log_prob(z))
    return torch.cat(recons), torch.cat(kls)


def importance_weights(
    vae: VAE,
    images: Tensor,
    samples: int,
    seed: int,
    done: Callable[[int], object] = lambda _images: None,
) -> Tensor:
    """log p(x|z) + log p(z) - log q(z|x) of ``samples`` draws of z ~ q(z|x): (N, samples), nats.

    Their mean is the ELBO; ``losses.negative_bound`` estimates the likelihood from them. An image's
    draws depend on the seed and its index alone, not on the batching. ``done`` is called with the
    number of images of each finished batch.
    """
    noise = torch.Generator().manual_seed(seed)
    rows = ROWS.get(images.device.type, ROWS["cpu"])
    weights = []
    for part in images.split(max(1, rows // samples)):
        mu, logvar = (stats[:, None] for stats in vae.encode(part))  # (B, 1, Z)
        draws = [torch.randn(samples, vae.latent_dim, generator=noise) for _ in part]
        epsilon = torch.stack(draws).to(part.device)  # (B, samples, Z)
        z = (mu + epsilon * torch.exp(logvar / 2)).flatten(0, 1)
        shown = part.repeat_interleave(samples, dim=0)
        log_likelihood = [
            -reconstruction_nats(vae.decoder(some), images_of_some)
            for some, images_of_some in zip(z.split(rows), shown.split(rows), strict=True)
        ]
        log_joint = torch.cat(log_likelihood) + vae.prior.log_prob(z)
        weights.append(log_joint.view(len(part), samples) - log_posterior(epsilon, logvar))
        done(len(part))
    return torch.cat(weights)


@dataclass(frozen=True)
class Likelihood:
    """Negative log-likelihood of a set of images, in nats an image; see ``importance_nll``."""

    nll: float
    standard_error: float  # because only some of the images were weighted
    images: int  # weighted


def check_effort(samples: int, weighed: int, images: int) -> None:
    """Check the arguments of ``importance_nll`` for so many images.

    Raises:
        ValueError: as ``importance_nll``.
    """
    if weighed < images and min(weighed, samples) < 2:
        raise ValueError(
            f"{samples} draws for each of {weighed} of {images} images give no standard error; use "
            "at least 2 of both, or all images"
        )


def importance_nll(vae: VAE, images: Tensor, samples: int, weighed: int, seed: int) -> Likelihood:
    """Mean negative log-likelihood of binarised images (N, C, H, W), by importance sampling.

    The first ``weighed`` of the images, in a seeded order, get ``samples`` draws each. Every other
    image counts as its negative ELBO minus the mean gap between ELBO and likelihood of the weighted
    ones (the difference estimator of survey sampling). That gap varies by about a nat while
    likelihoods vary by 20, so 1,000 images give a tenth of a nat. With all images weighted it is
    the plain mean.

    Raises:
        ValueError: not all images are weighted, and fewer than two, or with fewer than two draws
            each, so that there is no standard error.
    """
    check_effort(samples, weighed, len(images))
    weighed = min(weighed, len(images))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    order = order.to(images.device)
    with progress_of(weighed, 0, 1) as progress:
        few = images[order[:weighed]]
        weights = importance_weights(vae, few, samples, seed, progress.update).double()
    nll = negative_bound(weights)
    rest = images[order[weighed:]]
    if not len(rest):
        return Likelihood(float(nll.mean()), 0.0, weighed)
    gap = -weights.mean(dim=1) - nll
    recon, kl = elbo_terms(vae, rest, seed)
    total = nll.sum() + (recon.double() + kl.double() - gap.mean()).sum()
    # From the choice of weighted images, and from the single draw of each other image.
    variance = (len(rest) / len(images)) ** 2 * gap.var() / weighed
    variance += len(rest) / len(images) ** 2 * weights.var(dim=1).mean()
    return Likelihood(float(total) / len(images), float(variance.sqrt()), weighed)


def encodings(vae: VAE, images: Tensor) -> tuple[Tensor, Tensor]:
    """mu and logvar, (N, Z) each, of images (N, C, H, W) in [0, 1]."""
    parts = [vae.encode(part) for part in images.split(BATCH)]
    mu, logvar = (torch.cat(column) for column in zip(*parts, strict=True))
    return mu, logvar


def active_units(mu: Tensor) -> int:
    """Latent dimensions whose mu (N, Z) varies over the data by more than 0.01.

    Source: Burda et al. 2016, section 5.2.
    """
    return int((mu.double().var(dim=0) > ACTIVE_VARIANCE).sum())


def kl_per_dimension(mu: Tensor, logvar: Tensor) -> list[float]:
    """KL from q(z|x) to N(0, 1) in each dimension, in nats, the mean over the data: (Z,).

    To N(0, 1) instead of the learned prior, which is no product over dimensions.
    """
    return [
        float(kl_to_standard_normal(mu[:, d : d + 1], logvar[:, d : d + 1]).mean())
        for d in range(mu.shape[1])
    ]


def structural_similarity(first: Tensor, second: Tensor) -> float:
    """Mean SSIM of pairs of images (N, C, H, W) in [0, 1]: Gaussian window of 11 pixels, sigma 1.5.

    For images smaller than 16 pixels a side, a window of 5 pixels, sigma 0.5.
    Source: Wang et al. 2004, by torchmetrics.
    """
    import_torchvision()  # torchmetrics imports torchvision too
    from torchmetrics.functional.image import structural_similarity_index_measure

    sigma = 1.5 if min(first.shape[2:]) >= 16 else 0.5
    total = 0.0
    for one, other in zip(first.split(BATCH), second.split(BATCH), strict=True):
        similarity = structural_similarity_index_measure(
            one, other, sigma=sigma, data_range=1.0, reduction="sum"
        )
        assert isinstance(similarity, Tensor)  # not a pair with the image of similarities
        total += float(similarity)
    return total / len(first)
