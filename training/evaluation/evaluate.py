"""Figures of a trained network, on 10,000 seeded samples, beside what real images score."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.data.dataset import to_pixels
from training.evaluation import cas, likelihood, measures
from training.evaluation.measures import labels_by_share
from training.evaluation.metric_docs import rounded
from training.evaluation.reference import BATCH, SAMPLES, SEED, Judged, Reference, ratio
from training.networks.gan import Generator
from training.networks.vae import VAE


@dataclass(frozen=True)
class Effort:
    """How much is measured. What a card states is measured with these defaults."""

    samples: int = SAMPLES  # drawn, and as many real images beside them
    cas_images: int = cas.IMAGES  # drawn for CAS, at most as many as are trained on; 0 = no CAS
    nll_samples: int = 1_000  # draws of z for each image's likelihood; 0 = no likelihood
    nll_images: int = 1_000  # test images that get so many draws


def draw(
    network: Generator | VAE, count: int, seed: int, shares: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """``count`` samples as they are served: uint8 (count, C, H, W), and labels if conditional.

    Args:
        shares: Of the labels, (K,); None = equal ones. Samples are to be compared with images of
            the same labels (docs/explanation/quality.md).
    """
    device = next(network.parameters()).device
    noise = torch.Generator().manual_seed(seed)
    labels = None
    if network.num_classes:
        even = torch.full((network.num_classes,), 1 / network.num_classes)
        labels = labels_by_share(even if shares is None else shares, count)
    images = []
    for start in range(0, count, BATCH):
        z = torch.randn(min(BATCH, count - start), network.latent_dim, generator=noise).to(device)
        part = labels[start : start + BATCH].to(device) if labels is not None else None
        images.append(as_served(network.generate(z, part)))
    return torch.cat(images), labels


def as_served(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] in the 8 bits of an answer of the service."""
    return (pixels * 255).round().to(torch.uint8)


@torch.no_grad()
def evaluate(
    network: Generator | VAE, reference: Reference, effort: Effort | None = None
) -> dict[str, Any]:
    """Figures by name, as ``figures.MEANINGS`` explains them; deterministic on one device.

    A name with ``_floor`` or ``_real`` after it is the same figure of real images: what can be
    hoped for. docs/explanation/quality.md says how each is estimated.

    Args:
        network: In eval mode, on the device of the reference.
        effort: How much to measure; None = all that a card states.

    Raises:
        ValueError: of a VAE, as ``likelihood.check_effort``.
    """
    effort = effort or Effort()
    figures: dict[str, Any] = {"samples": effort.samples, "seed": SEED}
    figures |= reference.judge_figures
    figures |= reference.compare(*draw(network, effort.samples, SEED, reference.shares))
    if network.num_classes and effort.cas_images:
        # Not more than the real images there are: both classifiers see as many. Other noise than
        # the samples above, so that the figures do not share their luck.
        count = min(effort.cas_images, len(reference.train))
        levels, labels = draw(network, count, SEED + 1, reference.cas_shares(count))
        assert labels is not None
        figures |= reference.compare_by_cas(levels, labels)
    if isinstance(network, VAE):
        figures |= _evaluate_vae(network, reference, effort)
    return rounded(figures)


def _evaluate_vae(vae: VAE, reference: Reference, effort: Effort) -> dict[str, Any]:
    """Likelihood of the test images and how they come back from mu."""
    images, labels = to_pixels(reference.test.images), reference.test.labels
    recon, kl = likelihood.elbo_terms(vae, images, SEED)
    binary = likelihood.binarised(images, SEED)
    binary_recon, binary_kl = likelihood.elbo_terms(vae, binary, SEED)
    figures = {
        "negative_elbo_nats": float((recon + kl).mean()),
        "reconstruction_nats": float(recon.mean()),
        "kl_nats": float(kl.mean()),
        "negative_elbo_binarised_nats": float((binary_recon + binary_kl).mean()),
    }
    if effort.nll_samples:
        found = likelihood.importance_nll(vae, binary, effort.nll_samples, effort.nll_images, SEED)
        figures |= {
            "nll_binarised_nats": found.nll,
            "nll_standard_error": found.standard_error,
            "nll_samples": effort.nll_samples,
            "nll_images": found.images,
        }
    mu, logvar = likelihood.encodings(vae, images)
    back = torch.cat([as_served(vae.decode(part)) for part in mu.split(BATCH)])
    judged = Judged.by(reference.judge, back)
    distance = measures.frechet_distance(judged.features, reference.judged_test.features)
    return figures | {
        "reconstruction_mse": float((to_pixels(back) - images).square().mean()),
        "reconstruction_ssim": likelihood.structural_similarity(to_pixels(back), images),
        "reconstruction_accuracy": float((judged.classes == labels).double().mean()),
        "reconstruction_frechet_test": distance,
        "reconstruction_frechet_test_ratio": ratio(distance, reference.floors["frechet_test"]),
        "active_units": likelihood.active_units(mu),
        "latent_dimensions": vae.latent_dim,
        "kl_per_dimension_nats": likelihood.kl_per_dimension(mu, logvar),
    }
