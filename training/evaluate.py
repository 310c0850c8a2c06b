"""Figures of a trained network, on 10,000 seeded samples, beside what real images score."""

import math
from typing import Any

import torch
from torch import Tensor

from training.data import Dataset, to_pixels
from training.judge import Judge
from training.losses import reconstruction_nats
from training.networks.gan import Generator
from training.networks.vae import VAE

SAMPLES = 10_000
BATCH = 500
SEED = 2024


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Frechet distance between Gaussians fitted to two sets of features, (N, D) and (M, D).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), in float64; sample covariances (N - 1).
    Source: Heusel et al. 2017, arXiv:1706.08500, equation 6, with our features for Inception's.
    """
    first, second = first.double(), second.double()
    cov1, cov2 = first.T.cov(), second.T.cov()
    # tr (S1 S2)^(1/2) = sum of square roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), symmetric.
    values, vectors = torch.linalg.eigh(cov1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov2 @ root).clamp(min=0).sqrt().sum()
    mean = (first.mean(0) - second.mean(0)).square().sum()
    # Rounding can leave the distance between equal sets a hair below 0.
    return max(0.0, float(mean + cov1.trace() + cov2.trace() - 2 * cross))


def _judged(judge: Judge, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, D) and class numbers (N,) of pixels (N, C, H, W)."""
    features, classes = [], []
    for part in images.split(BATCH):
        features.append(judge.features(part))
        classes.append(judge(part)[0].argmax(1))
    return torch.cat(features), torch.cat(classes)


def draw(network: Generator | VAE, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """``count`` samples as they are served, through 8 bits: pixels, and labels if conditional.

    Labels go round (0, 1, ... K-1, 0, ...), so each has its equal share.
    """
    device = next(network.parameters()).device
    noise = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % network.num_classes if network.num_classes else None
    images = []
    for start in range(0, count, BATCH):
        z = torch.randn(min(BATCH, count - start), network.latent_dim, generator=noise).to(device)
        part = labels[start : start + BATCH].to(device) if labels is not None else None
        images.append((network.generate(z, part) * 255).round() / 255)
    return torch.cat(images), labels


@torch.no_grad()
def evaluate(
    network: Generator | VAE, judge: Judge, train: Dataset, test: Dataset, count: int = SAMPLES
) -> dict[str, Any]:
    """Figures by name; each is deterministic on one device.

    ``frechet_test`` and ``frechet_train`` compare ``count`` samples with the test set and with the
    whole training set, in the judge's features; ``..._floor`` does so with as many real training
    images, drawn at random: no sample can be expected to do better. Accuracies are the judge's;
    ``judge_accuracy`` is what real test images score.

    Args:
        network: In eval mode, on the device of the other arguments.
        judge: Trained on ``train``.
        train, test: On that device.
    """
    real = to_pixels(test.images)
    test_features, test_classes = _judged(judge, real)
    train_features, _ = _judged(judge, to_pixels(train.images))
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(SEED))[:count]
    floor_features = train_features[chosen.to(train_features.device)]
    images, labels = draw(network, count, SEED)
    features, classes = _judged(judge, images)
    figures: dict[str, Any] = {
        "samples": count,
        "seed": SEED,
        "judge_accuracy": float((test_classes == test.labels).float().mean()),
    }
    for name, real_features in (("test", test_features), ("train", train_features)):
        distance = frechet_distance(features, real_features)
        floor = frechet_distance(floor_features, real_features)
        figures[f"frechet_{name}"] = distance
        figures[f"frechet_{name}_floor"] = floor
        figures[f"frechet_{name}_ratio"] = distance / max(floor, 1e-12)
    if labels is not None:
        correct = (classes.cpu() == labels).float()
        by_label = [float(correct[labels == k].mean()) for k in range(network.num_classes)]
        figures["conditional_accuracy"] = float(correct.mean())
        figures["conditional_accuracy_worst"] = min(by_label)
        figures["conditional_accuracy_worst_label"] = by_label.index(min(by_label))
    else:
        share = torch.bincount(classes.cpu(), minlength=len(test.class_names)).double() / count
        terms = torch.where(share > 0, share * (share * len(share)).log(), 0.0)
        figures["class_kl_to_uniform"] = float(terms.sum())
    if isinstance(network, VAE):
        figures |= _evaluate_vae(network, judge, real, test)
    return {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in figures.items()
    }


def _evaluate_vae(vae: VAE, judge: Judge, real: Tensor, test: Dataset) -> dict[str, float]:
    """Negative ELBO of the grey test images (one draw of z each), and how they come back."""
    noise = torch.Generator().manual_seed(SEED)
    recons, kls, squares, right = [], [], [], []
    for images, labels in zip(real.split(BATCH), test.labels.split(BATCH), strict=True):
        epsilon = torch.randn(len(images), vae.latent_dim, generator=noise).to(images.device)
        logits, mu, logvar = vae(images, epsilon)
        recon = reconstruction_nats(logits, images)
        # KL(q || prior) from the same draw: the prior may be a flow, which has no closed form.
        z = mu + epsilon * torch.exp(logvar / 2)
        log_q = -0.5 * (epsilon.square() + logvar + math.log(2 * math.pi)).sum(dim=1)
        kl = log_q - vae.prior.log_prob(z)
        back = vae.decode(mu)
        recons.append(recon)
        kls.append(kl)
        squares.append((back - images).square().mean(dim=(1, 2, 3)))
        right.append((judge(back)[0].argmax(1) == labels).float())
    return {
        "negative_elbo_nats": float((torch.cat(recons) + torch.cat(kls)).mean()),
        "reconstruction_nats": float(torch.cat(recons).mean()),
        "kl_nats": float(torch.cat(kls).mean()),
        "reconstruction_mse": float(torch.cat(squares).mean()),
        "reconstruction_accuracy": float(torch.cat(right).mean()),
    }
