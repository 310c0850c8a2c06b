"""Gives the modes of a GAN the frequencies of the classes that they were trained with."""

import dataclasses

import torch
from torch import Tensor

from training.data.dataset import Dataset
from training.evaluation.measures import class_shares
from training.networks import with_config
from training.networks.configs import MAX_OFFSET
from training.networks.gan import Generator
from training.networks.vae import VAE

LEAST_SHARE = 1e-4  # smallest frequency of a class; rarer ones are raised to it
_REACH, _POINTS = 12.0, 4801  # of the integration grid
_STEPS, _PRECISION = 1000, 1e-7  # iterations at most; error of the frequencies


def with_class_frequencies(network: Generator | VAE, train: Dataset) -> Generator | VAE:
    """The network with its modes as frequent as the classes among the training images.

    In training all modes are equally frequent, so that rare classes are learned as well. Samples
    should be distributed as the images are: 11.2 % of MNIST's digits are ones and 9.0 % fives, and
    with equal shares even real digits have a measurable distance to the training set.

    Args:
        network: In eval mode, on any device; mode k draws class k.

    Returns:
        A copy in eval mode; the network itself if it has no modes.
    """
    if isinstance(network, VAE) or not network.config.modes:
        return network
    shares = class_shares(train.labels, network.config.modes)
    config = dataclasses.replace(network.config, mode_offsets=offsets_for(shares))
    return with_config(network, config)


def offsets_for(shares: Tensor) -> tuple[float, ...]:
    """Offsets for K normal numbers, with which number k is the largest with probability shares[k].

    P(k) = integral of phi(x - o_k) prod over j != k of Phi(x - o_j), on a grid in float64; the
    offsets o are moved by half the differences of log-probabilities until the shares are met. Their
    mean is 0.

    Args:
        shares: (K,), K >= 2.
    """
    wanted = shares.double().cpu().clamp(min=LEAST_SHARE)
    wanted = wanted / wanted.sum()
    x = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64)
    offsets = torch.zeros(len(wanted), dtype=torch.float64)
    for _ in range(_STEPS):
        below = torch.special.log_ndtr(x - offsets[:, None])  # (K, points)
        density = -0.5 * (x - offsets[:, None]).square()
        shares = (density + below.sum(0) - below).exp().sum(1)
        shares = shares / shares.sum()
        if (shares - wanted).abs().max() < _PRECISION:
            break
        offsets += 0.5 * (wanted.log() - shares.log())
        offsets -= offsets.mean()
    return tuple(offsets.clamp(-MAX_OFFSET, MAX_OFFSET).tolist())
