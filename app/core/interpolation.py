"""Paths, traversals and draws of latents: arithmetic alone, with the same bits on every machine.

Sums, products, quotients and roots of single numbers are rounded alike everywhere (IEEE 754). Not
so sums of many, whose order a library chooses, nor its sine, arc tangent and exponential, so those
are computed with thirty decimal digits (``decimal`` is exact by specification).
"""

import decimal
import itertools
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.engines.rows import Latent
from training.networks.latents import normals

Method = Literal["slerp", "lerp"]

_MIN_ANGLE = Decimal(
    "1e-6"
)  # radians: nearer to the same or opposite directions, no arc is defined
_DIGITS = 30  # twice those of a float64
_PI = Decimal("3.14159265358979323846264338327950288")


def path(
    ends: Sequence[Latent], steps: int, method: Method, sizes: Sequence[int] = ()
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
        sizes: Of the parts of a latent, each of which turns by itself; () = one part.

    Returns:
        ``steps`` latents (Z,) float32, exact at the ends, and the parameter of each: 0 at the first
        end, 1 at the second...
    """
    places = np.linspace(0, len(ends) - 1, steps)
    if len(sizes) > 1:
        cuts = np.cumsum(sizes)[:-1]
        split = zip(*(np.split(end, cuts) for end in ends), strict=True)
        parts = [path(part, steps, method)[0] for part in split]
        return [np.concatenate(row) for row in zip(*parts, strict=True)], places
    with decimal.localcontext(prec=_DIGITS):
        pairs = list(itertools.pairwise(ends))
        arcs = [_arc(a, b) if method == "slerp" else None for a, b in pairs]
        latents = []
        for place in places.tolist():
            index = min(int(place), len(pairs) - 1)
            (a, b), t = pairs[index], place - index
            arc = arcs[index]
            if t in (0, 1):
                latents.append(b if t else a)
            elif arc is not None:
                latents.append(arc.at(t))
            else:
                latents.append(np.asarray(a + t * (b.astype(np.float64) - a), dtype=np.float32))
    return latents, places


class _Arc(NamedTuple):
    """Between two ends whose directions differ."""

    directions: tuple[NDArray[np.float64], NDArray[np.float64]]  # (Z,) of length 1
    lengths: tuple[float, float]
    angle: Decimal  # between the directions

    def at(self, t: float) -> Latent:
        """The latent at t, 0 to 1; in the precision of the context."""
        place, whole = Decimal(t), _sine(self.angle)
        one, other = (float(_sine(part * self.angle) / whole) for part in (1 - place, place))
        length = (1 - t) * self.lengths[0] + t * self.lengths[1]
        parts = one * self.directions[0] + other * self.directions[1]
        return np.asarray(parts * length, dtype=np.float32)


def _arc(a: Latent, b: Latent) -> _Arc | None:
    """None if an end is 0, or their directions are the same or opposite."""
    lengths = _length(a.astype(np.float64)), _length(b.astype(np.float64))
    if min(lengths) == 0:
        return None
    one, other = a.astype(np.float64) / lengths[0], b.astype(np.float64) / lengths[1]
    # More accurate than the arc cosine where directions are close (Kahan 2006, section 12).
    angle = 2 * _arc_tangent(Decimal(_length(one - other)), Decimal(_length(one + other)))
    if not _MIN_ANGLE < angle < _PI - _MIN_ANGLE:
        return None
    return _Arc((one, other), lengths, angle)


def _length(vector: NDArray[np.float64]) -> float:
    """Of a vector (Z,): the root of the correctly rounded sum of its squares."""
    return math.sqrt(math.fsum((vector * vector).tolist()))


def _sine(x: Decimal) -> Decimal:
    """Of 0 to pi, in the precision of the context."""
    x = min(x, _PI - x)
    term = total = x
    for n in range(2, 32, 2):  # Taylor: below 1e-30 from 28 on
        term *= -x * x / (n * (n + 1))
        total += term
    return total


def _arc_tangent(y: Decimal, x: Decimal) -> Decimal:
    """The angle of the point (x, y), both at least 0 and not both 0, in the context's precision."""
    if y > x:
        return _PI / 2 - _arc_tangent(x, y)
    ratio = y / x
    for _ in range(4):  # halves the angle: atan(r) = 2 atan(r / (1 + sqrt(1 + r^2)))
        ratio /= 1 + (1 + ratio * ratio).sqrt()
    term, total = ratio, Decimal(0)  # at most tan(pi / 64) = 0.05
    for n in range(1, 25, 2):  # Taylor: below 1e-32 from 23 on
        total += term / n
        term *= -ratio * ratio
    return 16 * total


def traversal(start: Latent, axes: Sequence[int], values: Sequence[float]) -> list[Latent]:
    """``start`` (Z,) with one axis after the other set to each value."""
    latents = []
    for axis in axes:
        for value in values:
            z = start.copy()
            z[axis] = value
            latents.append(z)
    return latents


def draw(mu: Latent, logvar: Latent, seed: int) -> Latent:
    """mu + exp(logvar / 2) * noise of the seed: a sample of a posterior, (Z,)."""
    noise = normals(np.array([seed], dtype=np.uint64), len(mu))[0]
    with decimal.localcontext(prec=_DIGITS):
        deviations = [float((Decimal(number) / 2).exp()) for number in logvar.tolist()]
    return np.asarray(mu + np.array(deviations, dtype=np.float32) * noise)
