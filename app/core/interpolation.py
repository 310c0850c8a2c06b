"""Paths and traversals through latents: arithmetic alone."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.engines.rows import Latent

Method = Literal["slerp", "lerp"]

_MIN_ANGLE = 1e-6  # radians: nearer to the same or opposite directions, no arc is defined


def path(
    ends: Sequence[Latent], steps: int, method: Method
) -> tuple[list[Latent], NDArray[np.float64]]:
    """Latents on a path through all ends, at equal steps of its parameter.

    ``slerp`` turns evenly from one end's direction to the other's while the length changes evenly.
    Latents between two draws of a normal distribution are then as far from 0 as draws are; on a
    straight line (``lerp``) they are closer. Ends in one line with 0 are joined by a straight line.

    Source: Shoemake 1985, "Animating rotation with quaternion curves", equation 2; for latents,
    White 2016, arXiv:1609.04468.

    Args:
        ends: Two or more, each (Z,).
        steps: Number of latents; 1 = the first end alone.
        method: Between each end and the next.

    Returns:
        ``steps`` latents (Z,) float32, exact at the ends, and the parameter of each: 0 at the first
        end, 1 at the second...
    """
    places = np.linspace(0, len(ends) - 1, steps)
    latents = []
    for place in places:
        index = min(int(place), len(ends) - 2)
        latents.append(_interpolate(ends[index], ends[index + 1], float(place) - index, method))
    return latents, places


def _interpolate(a: Latent, b: Latent, t: float, method: Method) -> Latent:
    if t in (0, 1):
        return b if t else a
    lengths = [float(np.linalg.norm(end.astype(np.float64))) for end in (a, b)]
    if method == "slerp" and min(lengths) > 0:
        one, other = (end / length for end, length in zip((a, b), lengths, strict=True))
        # More accurate than the arc cosine where directions are close (Kahan 2006, section 12).
        angle = 2 * math.atan2(
            float(np.linalg.norm(one - other)), float(np.linalg.norm(one + other))
        )
        if _MIN_ANGLE < angle < math.pi - _MIN_ANGLE:
            parts = math.sin((1 - t) * angle) * one + math.sin(t * angle) * other
            length = (1 - t) * lengths[0] + t * lengths[1]
            return np.asarray(parts * (length / math.sin(angle)), dtype=np.float32)
    return np.asarray(a + t * (b.astype(np.float64) - a), dtype=np.float32)


def traversal(start: Latent, axes: Sequence[int], values: Sequence[float]) -> list[Latent]:
    """``start`` (Z,) with one axis after the other set to each value."""
    latents = []
    for axis in axes:
        for value in values:
            z = start.copy()
            z[axis] = value
            latents.append(z)
    return latents
