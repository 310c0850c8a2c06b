"""Connected pieces of a mask, by runs: the pixels of a row that follow each other.

Written with numpy alone: scipy.ndimage would be the other choice.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


class Box(NamedTuple):
    """Rows and columns, first and last."""

    top: int
    left: int
    bottom: int
    right: int


class Pieces(NamedTuple):
    """The pieces of a mask (H, W), which touch by side or corner; N of them."""

    labels: NDArray[np.int32]  # (H, W): 0 = none, else the piece's index + 1
    area: NDArray[np.int64]  # (N,) pixels
    top: NDArray[np.int64]  # (N,) first row
    bottom: NDArray[np.int64]  # (N,) last row
    left: NDArray[np.int64]
    right: NDArray[np.int64]

    @property
    def high(self) -> NDArray[np.int64]:
        return self.bottom - self.top + 1

    @property
    def wide(self) -> NDArray[np.int64]:
        return self.right - self.left + 1

    @property
    def size(self) -> NDArray[np.int64]:
        """The longer side of the box around each piece."""
        return np.maximum(self.high, self.wide)

    @property
    def at_frame(self) -> Mask:
        """Which pieces touch the frame of the mask."""
        height, width = self.labels.shape
        across = (self.left == 0) | (self.right == width - 1)
        return np.asarray(across | (self.top == 0) | (self.bottom == height - 1), np.bool_)

    def box(self, chosen: Any) -> Box:
        """The box around one piece (its index) or several (a mask or indices)."""
        return Box(
            *(int(np.min(side[chosen])) for side in (self.top, self.left)),
            *(int(np.max(side[chosen])) for side in (self.bottom, self.right)),
        )

    def inside(self, box: Box) -> Mask:
        """Which pieces lie within a box, and touch none of its sides: (N,)."""
        across = (self.left > box.left) & (self.right < box.right)
        return across & (self.top > box.top) & (self.bottom < box.bottom)

    def around(self, box: Box) -> Mask:
        """Which pieces' boxes have a box within them."""
        across = (self.left < box.left) & (self.right > box.right)
        return across & (self.top < box.top) & (self.bottom > box.bottom)

    def distance(self, box: Box) -> NDArray[np.int64]:
        """Pixels from a box to that around each piece, along the axis of most."""
        down = np.maximum(self.top - box.bottom, box.top - self.bottom)
        aside = np.maximum(self.left - box.right, box.left - self.right)
        return np.maximum(np.maximum(down, aside), 0)


def pieces_of(mask: Mask) -> Pieces:
    """The connected pieces of a mask."""
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    change = np.diff(padded, axis=1)
    rows, starts = np.nonzero(change == 1)
    _, ends = np.nonzero(change == -1)  # exclusive
    count = len(rows)
    # Runs of the row above that touch a run: those that end at or after its start, and start at or
    # before its end. On one axis, with a gap between rows, these are two searches in sorted lists.
    gap = width + 2
    above = (rows - 1) * gap
    first = np.searchsorted(rows * gap + ends, above + starts)
    last = np.searchsorted(rows * gap + starts, above + ends, side="right")
    touching = np.maximum(last - first, 0)
    lower = np.repeat(np.arange(count), touching)
    offsets = np.arange(len(lower)) - np.repeat(np.cumsum(touching) - touching, touching)
    upper = np.repeat(first, touching) + offsets
    root = _roots(count, lower, upper)
    found, index = np.unique(root, return_inverse=True)
    total = len(found)
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = np.repeat(index + 1, ends - starts)
    area = np.bincount(index, ends - starts, total).astype(np.int64)
    top, left = np.full(total, height), np.full(total, width)
    bottom, right = np.zeros(total, np.int64), np.zeros(total, np.int64)
    np.minimum.at(top, index, rows)
    np.maximum.at(bottom, index, rows)
    np.minimum.at(left, index, starts)
    np.maximum.at(right, index, ends - 1)
    return Pieces(labels, area, top, bottom, left, right)


def _roots(count: int, one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.int64]:
    """For each of ``count`` nodes the least node that edges ``one``-``other`` connect it with.

    Each round hooks the roots of connected nodes to the lesser of them, then flattens the trees;
    rounds grow with the logarithm of the number of nodes.

    Source: Shiloach & Vishkin 1982, Journal of Algorithms 3(1).
    """
    parent = np.arange(count)
    while True:
        a, b = parent[one], parent[other]
        if (a == b).all():
            return parent
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while True:
            flatter = parent[parent]
            if (flatter == parent).all():
                break
            parent = flatter
