"""Removes the lines of ruled and squared paper: long, thin, straight; to the edge, or parallel."""

import numpy as np
from numpy.typing import NDArray

from app.fitting.morphology import Mask

Places = NDArray[np.int64]

_SLOPES = np.linspace(-0.21, 0.21, 43)  # 12 degrees each way; at 512 pixels steps of 5
_SEVERAL = 3  # parallel lines need not reach the frame: a digit has fewer
# Shares of the picture's side.
_LENGTH = 0.5
_FRAME = 0.03  # an end this near reaches it
_THICK = 0.025
_GATHERED = 0.35  # columns with ink: the slanting row belongs to a line
_MOST_POINTS = 20_000  # with which the slope is looked for


def without_lines(mask: Mask) -> tuple[Mask, bool]:
    """The mask without ruled lines, across and down, and whether there were any.

    Where a stroke crosses a line, or stands on it, its part stays.
    """
    found = False
    for transposed in (False, True):
        for _ in range(3):  # in perspective, lines have several slopes
            part, some = _without_one_slope(mask.T if transposed else mask)
            if not some:
                break
            mask, found = part.T if transposed else part, True
    return mask, found


def _without_one_slope(mask: Mask) -> tuple[Mask, bool]:
    """The mask without the lines across of its most frequent slope.

    Points of a line of slope s have the same y - s x. The slope is taken at which these numbers
    gather most.

    Source: Postl 1986, "Detection of linear oblique structures and skew scan in digitized
    documents", ICPR.
    """
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    if len(rows) < _LENGTH * width:
        return mask, False
    reach = int(_SLOPES[-1] * width / 2) + 2  # slanting rows above and below the picture
    bins = height + 2 * reach

    def slanting(slope: float, step: int = 1) -> Places:
        places = np.rint(rows[::step] - slope * (columns[::step] - width / 2)) + reach
        return np.asarray(places, np.int64)

    step = -(-len(rows) // _MOST_POINTS)
    gathered = [float(np.square(np.bincount(slanting(s, step))).sum()) for s in _SLOPES]
    slope = float(_SLOPES[int(np.argmax(gathered))])
    places = slanting(slope)
    covered = np.bincount(np.unique(places * width + columns) // width, minlength=bins)
    first, last = np.full(bins, width), np.zeros(bins, np.int64)
    np.minimum.at(first, places, columns)
    np.maximum.at(last, places, columns)
    near = max(2, round(_FRAME * width))
    to_frame = (first < near) & (last >= width - near)
    edges = np.flatnonzero(np.diff((np.pad(covered, 1) >= _GATHERED * width).astype(np.int8)))
    thick = max(2, round(_THICK * max(height, width)))
    lines = [
        (start, stop, bool(to_frame[start:stop].any()))
        for start, stop in edges.reshape(-1, 2).tolist()
        if stop - start <= thick and covered[start:stop].max() >= _LENGTH * width
    ]
    if len(lines) < _SEVERAL:
        lines = [line for line in lines if line[2]]
    if not lines:
        return mask, False
    result = mask.copy()
    across = np.arange(width)
    lean = np.rint(slope * (across - width / 2)).astype(np.int64) - reach
    for start, stop, _ in lines:
        stroke = np.zeros(width, np.bool_)
        for beside in (start - 2 + lean, stop + 1 + lean):
            inside = (beside >= 0) & (beside < height)
            stroke[inside] |= mask[beside[inside], across[inside]]
        for row in range(start - 1, stop + 1):
            at = row + lean
            gone = ~stroke & (at >= 0) & (at < height)
            result[at[gone], across[gone]] = False
    return result, True
