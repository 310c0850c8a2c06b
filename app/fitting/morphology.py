"""Squares moved over a picture: the least or largest of what they cover.

Source: Serra 1982, "Image Analysis and Mathematical Morphology".
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)


def largest(values: NDArray[Number], size: int, axis: int) -> NDArray[Number]:
    """The largest of each ``size`` values that follow each other along an axis: ``size`` - 1 fewer
    values, in as many steps as ``size`` has bits."""
    return _extreme(values, size, axis, np.maximum)


def opened(levels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """An opening by a square: light things narrower than ``size`` pixels are gone, and the edges of
    wider ones stay where they are, unlike in a blurred picture.

    Args:
        levels: (H, W). Beyond its frame it goes on as it ends.
    """
    size = min(size, *levels.shape)
    around = (size - 1, size - 1)
    values: NDArray[np.uint8] = np.pad(levels, (around, around), "edge")
    for pick in (np.minimum, np.maximum):
        for axis in (0, 1):
            values = _extreme(values, size, axis, pick)
    return values


def grown(values: NDArray[Number], by: int) -> NDArray[Number]:
    """Each value becomes the largest of those at most ``by`` pixels away, (H, W)."""
    result = np.pad(values, by)
    for axis in (0, 1):
        result = largest(result, 2 * by + 1, axis)
    return result


def _extreme(values: NDArray[Any], size: int, axis: int, pick: Any) -> NDArray[Any]:
    """``size`` values reduced by ``pick``, doubling the reach at each step."""
    along: tuple[slice, ...] = (slice(None),) * axis
    reach = 1
    while reach < size:
        step = min(reach, size - reach)
        values = pick(values[(*along, slice(None, -step))], values[(*along, slice(step, None))])
        reach += step
    return values
