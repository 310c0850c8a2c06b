"""Tone curves: a generator's pixel values bent into those of real images, after training.

Networks leave some of the background not quite black and paint ink at the end of the range, where
real images have their own ceiling. A monotone curve with a few knots mends both
(``training.release.tone_curve`` fits it; matching of histograms: Gonzalez & Woods, Digital Image
Processing, section 3.3).
"""

import itertools

import torch.nn.functional as F
from torch import Tensor

from training.networks.configs import Curve


def bent(values: Tensor, curve: Curve) -> Tensor:
    """Values of any shape through the piecewise linear curve, to pixels in [0, 1].

    Each inner knot is one leaky ReLU: with x moved so that the knot is at 0, it leaves what is
    above as it is and multiplies what is below by the ratio of the two slopes there. So a knot
    costs two operations a pixel, and the whole curve about 2 % of the shipped network
    (docs/log.md). No curve = only clamped.
    """
    if not curve:
        return values.clamp(0, 1)
    slopes = [(y - below) / (x - left) for (left, below), (x, y) in itertools.pairwise(curve)]
    moved = 0.0
    for (knot, _), slope, next_slope in zip(curve[1:-1], slopes, slopes[1:], strict=False):
        values = F.leaky_relu(values - (knot - moved), slope / next_slope)
        moved = knot
    x, y = curve[-1]
    return (slopes[-1] * values + (y - slopes[-1] * (x - moved))).clamp(0, 1)
