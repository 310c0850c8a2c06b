"""Paths and traversals through latents: numbers alone."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Latent = NDArray[np.float32]  # (Z,)
Method = Literal["slerp", "lerp"]

_ALIKE = 1e-6  # radians: ends in the same or in opposite directions have no arc between them


def path(
    ends: Sequence[Latent], steps: int, method: Method
) -> tuple[list[Latent], NDArray[np.float64]]:
    """Latents on the way through all ends, at equal distances of the parameter.

    ``slerp`` turns from one end's direction to the other's at an even pace (Shoemake 1985,
    "Animating rotation with quaternion curves", equation 2; White 2016, arXiv:1609.04468, for
    latents) while the length goes evenly from one to the other: what lies between two draws of a
    normal distribution is then as far from 0 as draws are, where ``lerp``, the straight line, comes
    closer. Ends that lie in one line with 0 are joined straight.

    Args:
        ends: Two or more, each (Z,).
        steps: Latents in all; 1 = the first end alone.
        method: Between each end and the next.

    Returns:
        ``steps`` latents (Z,) float32, the ends themselves exactly, and where each is: 0 at the
        first end, 1 at the second...
    """
    places = np.linspace(0, len(ends) - 1, steps)
    found = []
    for place in places:
        index = min(int(place), len(ends) - 2)
        found.append(_between(ends[index], ends[index + 1], float(place) - index, method))
    return found, places


def _between(a: Latent, b: Latent, t: float, method: Method) -> Latent:
    if t in (0, 1):
        return b if t else a
    lengths = [float(np.linalg.norm(end.astype(np.float64))) for end in (a, b)]
    if method == "slerp" and min(lengths) > 0:
        one, other = (end / length for end, length in zip((a, b), lengths, strict=True))
        # More exact than the arc cosine where directions are close (Kahan 2006, section 12).
        angle = 2 * math.atan2(
            float(np.linalg.norm(one - other)), float(np.linalg.norm(one + other))
        )
        if _ALIKE < angle < math.pi - _ALIKE:
            parts = math.sin((1 - t) * angle) * one + math.sin(t * angle) * other
            length = (1 - t) * lengths[0] + t * lengths[1]
            return np.asarray(parts * (length / math.sin(angle)), dtype=np.float32)
    return np.asarray(a + t * (b.astype(np.float64) - a), dtype=np.float32)


def traversal(start: Latent, axes: Sequence[int], values: Sequence[float]) -> list[Latent]:
    """``start`` (Z,) with one axis after the other set to each value."""
    found = []
    for axis in axes:
        for value in values:
            z = start.copy()
            z[axis] = value
            found.append(z)
    return found
