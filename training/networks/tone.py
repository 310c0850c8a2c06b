"""Tone curves: map a generator's pixel values so that their histogram is that of real images.

Networks leave part of the background slightly above black and put ink at the very end of the range,
where real images have a maximum of their own. A monotone curve of a few knots corrects both.
``training.release.tone_curve`` fits it after training. Histogram matching: Gonzalez & Woods,
Digital Image Processing, section 3.3.
"""

import itertools

import torch.nn.functional as F
from torch import Tensor

from training.networks.configs import Curve


def apply_curve(values: Tensor, curve: Curve) -> Tensor:
    """Values of any shape through the piecewise linear curve, to pixels in [0, 1].

    Each inner knot is one leaky ReLU: with x shifted so that the knot is at 0, values above stay
    and values below are multiplied by the ratio of the two slopes. That is two operations a pixel
    for each knot; the whole curve costs about 2 % of the shipped generator's time. Without a curve,
    values are clamped.
    """
    if not curve:
        return values.clamp(0, 1)
    slopes = [(y - below) / (x - left) for (left, below), (x, y) in itertools.pairwise(curve)]
    shift = 0.0
    for (knot, _), slope, next_slope in zip(curve[1:-1], slopes, slopes[1:], strict=False):
        values = F.leaky_relu(values - (knot - shift), slope / next_slope)
        shift = knot
    x, y = curve[-1]
    return (slopes[-1] * values + (y - slopes[-1] * (x - shift))).clamp(0, 1)
