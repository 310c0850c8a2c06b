"""Fits the tone curve of a trained network: its samples' pixel histogram made that of real images.

A monotone map does it, since the share of pixels below each level decides where that level begins.
A GAN keeps its own mid-greys, which its discriminator has matched in their places already: bending
those too lowered the histogram's distance and raised Fréchet's. A VAE paints means, which are
greyer than any image, and gains by the whole curve (docs/log.md has the figures of both).
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

SEED = 91  # of the samples: others than are measured
SAMPLES = 10_000
MOST_VALUES = 8_000_000  # pixels in all, so fewer samples of large images; sorting takes seconds
BATCH = 500
KNOTS = 7  # at most, the two ends included
LEAST_GAIN = 1e-3  # of the histogram's distance by one knot more
LEAST_STEP = 1e-3  # between two knots
# A GAN's curve leaves levels between these as they are (found on MNIST, docs/log.md).
KEPT = (20, 235)

Values = NDArray[np.float64]
_BOUNDARIES: Values = (np.arange(255) + 0.5) / 255  # where level j rounds up to j + 1


def with_tone_curve(network: Generator | VAE, train: Dataset) -> Generator | VAE:
    """The network with a curve fitted to the training images; itself where none would help.

    Args:
        network: In eval mode, without a curve.
        train: On any device.

    Returns:
        A copy of it in eval mode; the same each time on one device.
    """
    values = _values(network, class_shares(train.labels, len(train.class_names)))
    curve = fit_curve(values, histogram(train.images).numpy(), isinstance(network, VAE))
    if not curve:
        return network
    return with_config(network, dataclasses.replace(network.config, tone=curve))


@torch.no_grad()
def _values(network: Generator | VAE, shares: Tensor) -> Values:
    """Sorted values of samples, before any curve or clamp; labels by share, as in ``draw``."""
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
    """The curve that gives values the histogram of real images, by as few knots as do it.

    Args:
        values: Sorted, of samples, in the range of pixels or a little beyond it.
        shares: Of the 256 levels among real pixels.
        whole: Match every level; else those below and above KEPT alone.

    Returns:
        () where no curve brings the histogram nearer than a clamp does.
    """
    wanted = _crossings(values, shares, whole)
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


def _crossings(values: Values, shares: Values, whole: bool) -> Values:
    """For each level j the value at which a pixel is to become brighter than that: (255,)."""
    places = (np.cumsum(shares)[:255] * len(values)).astype(np.int64)
    matched = values[np.minimum(places, len(values) - 1)]
    if whole:
        return matched
    crossings = _BOUNDARIES.copy()
    low, high = KEPT
    # An end that cannot be matched without what is kept stays as it is: samples that are far off.
    if matched[0] <= _BOUNDARIES[low] - LEAST_STEP:
        crossings[:low] = np.minimum(matched[:low], _BOUNDARIES[low])
    if matched[254] >= _BOUNDARIES[high] + LEAST_STEP:
        crossings[high + 1 :] = np.maximum(matched[high + 1 :], _BOUNDARIES[high])
    return crossings


def _through(levels: list[int], crossings: Values) -> Curve:
    """The curve through the crossings of some levels, at least two, its end pieces drawn out to
    black and white; () where two knots would fall together."""
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
    """Of sorted values through the curve."""
    x, y = zip(*curve, strict=True)
    return _histogram(values, np.interp(_BOUNDARIES, y, x))


def _histogram(values: Values, crossings: Values) -> Values:
    """Shares of the 256 levels, where each begins at a crossing."""
    below = np.searchsorted(values, crossings, side="right") / len(values)
    return np.diff(np.concatenate([[0.0], below, [1.0]]))


def _distance(first: Values, second: Values) -> float:
    return float(np.abs(first - second).sum())
