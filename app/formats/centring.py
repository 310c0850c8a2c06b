"""Finds the ink of a drawing and puts it where MNIST has it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

RESAMPLING = PillowImage.Resampling.LANCZOS
MAX_INK_SIDE = 512  # pixels in which ink is looked for; a digit a tenth as large still has 50
_INK = 48  # of 255: from this level on a pixel belongs to the box around the ink
_MIN_CONTRAST = 24  # levels between ground and ink; less is noise, or no ink at all


def has_light_ground(picture: PillowImage.Image) -> bool:
    """Whether the picture's frame is light, by the median."""
    levels = np.asarray(picture.convert("L"))
    return bool(np.median(levels[_frame(levels)]) >= 128)


def centred(picture: PillowImage.Image, width: int, height: int) -> PillowImage.Image | None:
    """The picture's ink, scaled and placed as MNIST's digits are; None = there is no ink.

    The ink is scaled to fit the middle 20 x 20 of 28 x 28 with its proportions kept, then moved by
    whole pixels until its centre of mass is at row 14 and column 14 (counted from 0), as far as it
    stays inside.

    Args:
        picture: Grey, light ink on a dark ground.
        width, height: Of the result, pixels; for others than 28 the box grows in proportion.

    Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits".
    """
    if (shrink := -(-max(picture.size) // MAX_INK_SIDE)) > 1:
        picture = picture.reduce(shrink)
    if min(picture.size) < 3 or (ink := _ink(picture)) is None:
        return None
    rows = np.flatnonzero((ink > _INK).any(axis=1))
    columns = np.flatnonzero((ink > _INK).any(axis=0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    factor = min(round(width * 20 / 28) / box.shape[1], round(height * 20 / 28) / box.shape[0])
    size = (max(1, round(box.shape[1] * factor)), max(1, round(box.shape[0] * factor)))
    small = PillowImage.fromarray(np.ascontiguousarray(box)).resize(size, RESAMPLING)
    mass = np.asarray(small, dtype=np.float64)
    total = max(mass.sum(), 1)
    row = (mass.sum(axis=1) * np.arange(size[1])).sum() / total
    column = (mass.sum(axis=0) * np.arange(size[0])).sum() / total
    left = min(max(round(width / 2 - column), 0), width - size[0])
    top = min(max(round(height / 2 - row), 0), height - size[1])
    result = PillowImage.new("L", (width, height))
    result.paste(small, (left, top))
    return result


def _frame(levels: NDArray[Any]) -> NDArray[np.bool_]:
    """Which pixels of (H, W) lie at the edge: a 28th of the shorter side, at least one pixel."""
    deep = max(1, min(levels.shape) // 28)
    edge = np.ones(levels.shape, dtype=np.bool_)
    edge[deep:-deep, deep:-deep] = False
    return edge


def _threshold(levels: NDArray[np.float32]) -> float:
    """The level that splits a picture into ground and ink with least variance within the two.

    Source: Otsu 1979, IEEE Trans. Systems, Man, and Cybernetics 9(1).
    """
    counts, edges = np.histogram(levels, 256)
    weight = counts.cumsum()
    middle = (edges[:-1] + edges[1:]) / 2
    total = (counts * middle).cumsum()
    below, above = weight[:-1], weight[-1] - weight[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total[:-1] / below - (total[-1] - total[:-1]) / above) ** 2
    return float(edges[1 + int(np.nan_to_num(between).argmax())])


def _ink(picture: PillowImage.Image) -> NDArray[np.uint8] | None:
    """Light ink on a dark ground as ink on black, 255 at full ink; None = there is no ink.

    A photo's paper is grey, unevenly lit and noisy. First a plane through the ground at the
    picture's frame is subtracted, then what is left of the ground; the rest is stretched.
    """
    levels = np.asarray(picture, dtype=np.float32)
    edge = _frame(levels)
    rows, columns = np.nonzero(edge & (levels <= _threshold(levels)))
    if len(rows) < 3:
        return None
    places = np.stack([np.ones(len(rows)), rows, columns], axis=1).astype(np.float32)
    plane, *_ = np.linalg.lstsq(places, levels[rows, columns], rcond=None)
    height, width = levels.shape
    down, right = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    levels = levels - (plane[0] + plane[1] * down + plane[2] * right)
    threshold = _threshold(levels)
    frame = levels[edge]
    ground = float(np.percentile(frame[frame <= threshold], 99)) if len(frame) else 0.0
    full = float(np.percentile(levels[levels > threshold], 75))
    if full - ground < _MIN_CONTRAST:
        return None
    stretched = (levels - ground) * (255 / (full - ground))
    ink: NDArray[np.uint8] = stretched.clip(0, 255).round().astype(np.uint8)
    return ink
