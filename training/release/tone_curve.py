"""Fits a trained network's tone curve: the pixel histogram of samples becomes that of real images.

A monotone map suffices: the share of pixels below each level determines where that level begins. A
GAN's mid-greys stay unchanged, because its discriminator has matched them already: mapping them too
lowered the histogram's distance but raised the Fréchet distance. A VAE's pixels are means, greyer
than any image, so its whole range is mapped.
"""

import dataclasses
import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.dataset import Dataset
from training.evaluation.measures import class_shares, histogram, labels_by_share
from training.networks import with_config
from training.networks.configs import Curve
from training.networks.gan import Generator
from training.networks.vae import VAE

SEED = 91  # of the samples: not those that are measured
SAMPLES = 10_000
MOST_VALUES = 8_000_000  # pixels in all (fewer samples of large images): sorting takes seconds
BATCH = 500
KNOTS = 7  # at most, including both ends
LEAST_GAIN = 1e-3  # of the histogram's distance, for one more knot
LEAST_STEP = 1e-3  # between two knots
# A GAN's curve does not change levels between these (found on MNIST).
KEPT = (20, 235)

Values = NDArray[np.float64]
_BOUNDARIES: Values = (np.arange(255) + 0.5) / 255  # where level j rounds up to j + 1


def with_tone_curve(network: Generator | VAE, train: Dataset) -> Generator | VAE:
    """The network with a curve fitted to the training images; the network itself if none helps.

    Args:
        network: In eval mode, without a curve.
        train: On any device.

    Returns:
        A copy in eval mode; deterministic on one device.
    """
    values = _values(network, class_shares(train.labels, len(train.class_names)))
    curve = fit_curve(values, histogram(train.images).numpy(), isinstance(network, VAE))
    if not curve:
        return network
    return with_config(network, dataclasses.replace(network.config, tone=curve))


@torch.no_grad()
def _values(network: Generator | VAE, shares: Tensor) -> Values:
    """Sorted pixel values of samples, before any curve or clamp; labels by share, as in "
    "``draw``."""
    device = next(network.parameters()).device
    noise = torch.Generator().manual_seed(SEED)
    count = min(SAMPLES, MOST_VALUES // int(np.prod(network.image_shape)))
    by_share = labels_by_share(shares, count).to(device)
    parts = []
    for start in range(0, count, BATCH):
        rows = min(BATCH, count - start)
        z = torch.randn(rows, network.latent_dim, generator=noise).to(device)
        labels = by_share[start : start + rows] if network.num_classes else None
        parts.append(network.before_curve(z, labels).flatten().cpu())
    return torch.cat(parts).sort().values.double().numpy()


def fit_curve(values: Values, shares: Values, whole: bool) -> Curve:
    """The curve that maps values to the histogram of real images, with as few knots as possible.

    Args:
        values: Sorted, of samples, in the range of pixels or slightly beyond.
        shares: Of the 256 levels among real pixels.
        whole: Match every level; False = only those below and above KEPT.

    Returns:
        () if no curve is better than clamping.
    """
    wanted = level_crossings(values, shares, whole)
    target = _histogram(values, wanted)
    chosen = [0, 254] if whole else [0, *KEPT, 254]
    curve, distance = _through(chosen, wanted), 2.0
    if curve:
        distance = _distance(_histogram_of(curve, values), target)
    while len(chosen) < KNOTS:
        more = [sorted([*chosen, level]) for level in range(1, 254) if level not in chosen]
        tried = []
        for levels in more:
            if candidate := _through(levels, wanted):
                tried.append((_distance(_histogram_of(candidate, values), target), levels))
        if not tried or min(tried)[0] > distance - LEAST_GAIN:
            break
        distance, chosen = min(tried)
        curve = _through(chosen, wanted)
    plain = _distance(_histogram(values, _BOUNDARIES), shares)
    if not curve or _distance(_histogram_of(curve, values), shares) >= plain:
        return ()
    return curve


def level_crossings(values: Values, shares: Values, whole: bool) -> Values:
    """For each level j the value above which a pixel should be brighter than that: (255,)."""
    places = (np.cumsum(shares)[:255] * len(values)).astype(np.int64)
    matched = values[np.minimum(places, len(values) - 1)]
    if whole:
        return matched
    crossings = _BOUNDARIES.copy()
    low, high = KEPT
    # An end that cannot be matched without changing kept levels is left: samples far from real.
    if matched[0] <= _BOUNDARIES[low] - LEAST_STEP:
        crossings[:low] = np.minimum(matched[:low], _BOUNDARIES[low])
    if matched[254] >= _BOUNDARIES[high] + LEAST_STEP:
        crossings[high + 1 :] = np.maximum(matched[high + 1 :], _BOUNDARIES[high])
    return crossings


def _through(levels: list[int], crossings: Values) -> Curve:
    """The curve through the crossings of at least two levels, extended at both ends to black and
    white; () if two knots would coincide."""
    points = [(float(crossings[level]), float(_BOUNDARIES[level])) for level in levels]
    if any(b[0] - a[0] < LEAST_STEP for a, b in itertools.pairwise(points)):
        return ()
    (x0, y0), (x1, y1) = points[:2]
    black = x0 - y0 * (x1 - x0) / (y1 - y0)
    (x0, y0), (x1, y1) = points[-2:]
    white = x1 + (1 - y1) * (x1 - x0) / (y1 - y0)
    if not -1 <= black <= white <= 2:
        return ()
    return ((black, 0.0), *points[1:-1], (white, 1.0))


def _histogram_of(curve: Curve, values: Values) -> Values:
    """Of sorted values after the curve."""
    x, y = zip(*curve, strict=True)
    return _histogram(values, np.interp(_BOUNDARIES, y, x))


def _histogram(values: Values, crossings: Values) -> Values:
    """Shares of the 256 levels, each of which begins at a crossing."""
    below = np.searchsorted(values, crossings, side="right") / len(values)
    return np.diff(np.concatenate([[0.0], below, [1.0]]))


def _distance(first: Values, second: Values) -> float:
    return float(np.abs(first - second).sum())
