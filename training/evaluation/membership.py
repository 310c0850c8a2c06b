"""Membership inference: does a network give away which images it was trained on?

Two attacks, each a threshold on one number of an image. By distance: images near a sample count as
members (Chen et al. 2020, "GAN-Leaks", arXiv:1909.03935, full black box). By loss, of a VAE: images
with a small negative ELBO do (Yeom et al. 2018, arXiv:1709.01604). Members are training images, the
others test images; the better they can be told apart, the more the network remembers.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from training.evaluation import likelihood, measures
from training.networks.vae import VAE

FALSE_POSITIVES = 0.01  # rate at which ``Inference.tpr`` is stated: Carlini et al. 2022
DRAWS = 4  # of z for each image's loss: with one, its noise hides what little there is to see


class Inference(NamedTuple):
    """How well members are told from others."""

    auc: float  # area under the ROC curve; 0.5 = not at all, 1 = always
    tpr: float  # share of members found where 1 % of the others are taken for members


def inference(members: Tensor, others: Tensor) -> Inference:
    """The attack that takes images with high scores for members. members (N,), others (M,)."""
    ordered = others.sort().values
    below = torch.searchsorted(ordered, members)
    up_to = torch.searchsorted(ordered, members, right=True)
    # Mann-Whitney's U over N M; a tie counts half.
    auc = (below + up_to).double().mean() / (2 * len(others))
    threshold = ordered[-1 - int(FALSE_POSITIVES * len(others))]
    return Inference(float(auc), float((members > threshold).double().mean()))


def attack_by_distance(samples: Tensor, members: Tensor, others: Tensor) -> Inference:
    """By the distance to the nearest sample; all are points of pixels, (N, D)."""
    near, far = (-measures.nearest(points, samples)[:, 0] for points in (members, others))
    return inference(near, far)


def attack_by_loss(vae: VAE, members: Tensor, others: Tensor, seed: int) -> Inference:
    """By the negative ELBO of images (N, C, H, W) in [0, 1], the mean of DRAWS."""

    def gain(images: Tensor) -> Tensor:
        terms = [likelihood.elbo_terms(vae, images, seed + draw) for draw in range(DRAWS)]
        return -torch.stack([recon + kl for recon, kl in terms]).mean(dim=0)

    return inference(gain(members), gain(others))
