"""Figures of a trained network on 10,000 seeded samples, beside those of real images."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.data.dataset import Dataset, to_pixels
from training.evaluation import cas, likelihood, membership
from training.evaluation.judge import judge_for, judge_path
from training.evaluation.judge_networks import ChoosingJudge, PublishingJudge
from training.evaluation.judged_reference import SEED
from training.evaluation.measures import labels_by_share
from training.evaluation.metric_docs import CHOOSING, rounded
from training.evaluation.reference import SAMPLES, Reference
from training.importing.graph_network import GraphNetwork
from training.networks.gan import Generator
from training.networks.vae import VAE

BATCH = 500


@dataclass(frozen=True)
class Effort:
    """How much is measured. The figures of a card are measured with these defaults."""

    samples: int = SAMPLES  # generated, and as many real images to compare with
    cas_images: int = cas.IMAGES  # generated for CAS, at most as many as real ones; 0 = no CAS
    nll_samples: int = 1_000  # draws of z for each image's likelihood; 0 = no likelihood
    nll_images: int = 1_000  # test images with so many draws


def reference_for(
    train: Dataset, test: Dataset, device: torch.device, effort: Effort | None = None
) -> Reference:
    """The real images on ``device`` as a reference, with the judges of the training set.

    The choosing judge only if it exists, since otherwise it has chosen nothing.
    """
    train, test = train.to(device), test.to(device)
    publishing, choosing = judge_for(PublishingJudge, train, device), None
    if judge_path(ChoosingJudge, train).exists():
        choosing = judge_for(ChoosingJudge, train, device)
    samples = (effort or Effort()).samples
    return Reference(publishing, train, test, samples, choosing=choosing)


def draw(
    network: Generator | VAE | GraphNetwork, count: int, seed: int, shares: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """``count`` samples as the service returns them: uint8 (count, C, H, W), and labels if
    conditional.

    Args:
        shares: Frequencies of the labels, (K,), which should be those of the images to compare
            with; None = equal ones.
    """
    device = next(network.parameters()).device
    noise = torch.Generator().manual_seed(seed)
    labels = None
    if network.num_classes:
        even = torch.full((network.num_classes,), 1 / network.num_classes)
        labels = labels_by_share(even if shares is None else shares, count)
    images = []
    for start in range(0, count, BATCH):
        rows = min(BATCH, count - start)
        if isinstance(network, GraphNetwork):  # of its own distribution
            z = network.latents(seed * count + start, rows).to(device)
        else:
            z = torch.randn(rows, network.latent_dim, generator=noise).to(device)
        part = labels[start : start + BATCH].to(device) if labels is not None else None
        images.append(as_served(network.generate(z, part)))
    return torch.cat(images), labels


def as_served(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] as the 8-bit levels of the service's responses."""
    return (pixels * 255).round().to(torch.uint8)


@torch.no_grad()
def evaluate(
    network: Generator | VAE | GraphNetwork, reference: Reference, effort: Effort | None = None
) -> dict[str, Any]:
    """Figures by name, as ``metric_docs.MEANINGS`` explains them; deterministic on one device.

    A name that ends in ``_floor`` or ``_real`` is the same figure of real images: the best to
    expect. Those of the choosing judge are a table of their own, ``metric_docs.CHOOSING``, where
    there is one. docs/explanation/quality.md explains how each is estimated.

    Args:
        network: In eval mode, on the device of the reference.
        effort: How much to measure; None = as for a card.

    Raises:
        ValueError: for a VAE, as ``likelihood.check_effort``.
    """
    effort = effort or Effort()
    by_choosing, choosing = reference.by_choosing, dict[str, Any]()
    figures: dict[str, Any] = {"samples": effort.samples, "seed": SEED}
    figures |= reference.count_figures | reference.judged.judge_figures
    levels, labels = draw(network, effort.samples, SEED, reference.shares)
    figures |= reference.compare(levels, labels)
    if by_choosing:
        choosing = by_choosing.judge_figures | by_choosing.compare(levels, labels)
    if network.num_classes and effort.cas_images:
        # At most as many as real images, since both classifiers get equally many. Other noise than
        # the samples above, so that the figures are independent.
        count = min(effort.cas_images, len(reference.train))
        levels, labels = draw(network, count, SEED + 1, reference.cas_shares(count))
        assert labels is not None
        figures |= reference.compare_by_cas(levels, labels)
    if isinstance(network, VAE):
        figures |= _evaluate_vae(network, reference, effort)
    if isinstance(network, VAE) or (isinstance(network, GraphNetwork) and network.config.input):
        levels = _reconstructed(network, reference.test)
        figures |= reference.compare_reconstructions(levels)
        if by_choosing:
            choosing |= by_choosing.compare_reconstructions(levels)
    return rounded(figures | ({CHOOSING: choosing} if choosing else {}))


def _reconstructed(network: VAE | GraphNetwork, data: Dataset) -> Tensor:
    """Images as decoded from mu: uint8 (N, C, H, W)."""
    images = to_pixels(data.images)
    if isinstance(network, GraphNetwork):
        labels = data.labels if network.num_classes else None
        return as_served(network.generate(network.encode(images, labels), labels))
    mu, _ = likelihood.encodings(network, images)
    return torch.cat([as_served(network.decode(part)) for part in mu.split(BATCH)])


def _evaluate_vae(vae: VAE, reference: Reference, effort: Effort) -> dict[str, Any]:
    """Likelihood of the test images, what it gives away, and the use of the latent space."""
    images = to_pixels(reference.test.images)
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
        estimate = likelihood.importance_nll(
            vae, binary, effort.nll_samples, effort.nll_images, SEED
        )
        figures |= {
            "nll_binarised_nats": estimate.nll,
            "nll_standard_error": estimate.standard_error,
            "nll_samples": effort.nll_samples,
            "nll_images": estimate.images,
        }
    members = to_pixels(reference.train.images[reference.members])
    found = membership.attack_by_loss(vae, members, images, SEED)
    mu, logvar = likelihood.encodings(vae, images)
    return figures | {
        "membership_loss_auc": found.auc,
        "membership_loss_tpr": found.tpr,
        "active_units": likelihood.active_units(mu),
        "latent_dimensions": vae.latent_dim,
        "kl_per_dimension_nats": likelihood.kl_per_dimension(mu, logvar),
    }
