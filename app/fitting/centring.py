"""Puts the ink of a drawing where MNIST has it."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from app.fitting.morphology import Mask, largest

RESAMPLING = PillowImage.Resampling.LANCZOS
# Pixels of 28, as ``stroke_width`` measures them: nine of ten digits of MNIST have wider ones, half
# of them wider than 2.2.
_LEAST_STROKE = 1.8


def placed(ink: NDArray[np.float32], width: int, height: int) -> tuple[NDArray[np.uint8], bool]:
    """Ink, scaled and placed as MNIST's digits are; and whether its strokes were thickened.

    The ink is scaled to fit the middle 20 x 20 of 28 x 28 with its proportions kept, then moved by
    whole pixels until its centre of mass is at row 14 and column 14 (counted from 0), as far as it
    stays inside. Strokes of a thin pen would be faint at that size, so they are thickened before.

    Args:
        ink: (H, W), 0 to 1; it reaches all four sides.
        width, height: Of the result, pixels; for others than 28 the box grows in proportion.

    Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits".
    """
    levels = (ink * 255).round().astype(np.uint8)
    box = round(height * 20 / 28), round(width * 20 / 28)
    factor = min(box[0] / ink.shape[0], box[1] / ink.shape[1])
    missing = round(_LEAST_STROKE * height / 28 / factor - stroke_width(ink > 0.5))
    if missing > 0:
        levels = np.pad(levels, missing)
        for axis in (0, 1):
            levels = largest(levels, missing + 1, axis)
        factor = min(box[0] / levels.shape[0], box[1] / levels.shape[1])
    rows, columns = (max(1, round(side * factor)) for side in levels.shape)
    small = PillowImage.fromarray(levels).resize((columns, rows), RESAMPLING)
    mass = np.asarray(small, dtype=np.float64)
    total = max(mass.sum(), 1)
    row = (mass.sum(axis=1) * np.arange(rows)).sum() / total
    column = (mass.sum(axis=0) * np.arange(columns)).sum() / total
    left = min(max(round(width / 2 - column), 0), width - columns)
    top = min(max(round(height / 2 - row), 0), height - rows)
    result = np.zeros((height, width), np.uint8)
    result[top : top + rows, left : left + columns] = np.asarray(small)
    return result, missing > 0


def stroke_width(ink: Mask) -> float:
    """Mean width of strokes, pixels: the area of a long one is half its perimeter times that.

    A perimeter at any angle is pi / 4 of the steps between pixels along it.
    """
    solid = np.pad(ink, 1)
    steps = np.count_nonzero(solid[1:] != solid[:-1])
    steps += np.count_nonzero(solid[:, 1:] != solid[:, :-1])
    return float(2 * np.count_nonzero(solid) / max(steps * np.pi / 4, 1))
