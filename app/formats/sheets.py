"""Several images arranged as one picture: a grid, a strip, or the frames of an animation."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from app.formats.pixels import Image, pixel_bytes

Layout = Literal["grid", "strip", "animation"]


def rows_and_columns(count: int, layout: Layout, columns: int | None = None) -> tuple[int, int]:
    """Rows and columns of a picture of ``count`` images.

    Args:
        count: Images.
        layout: How they are arranged; in an animation each image is a whole picture.
        columns: Of a grid; None = ceil(sqrt(count)).
    """
    if layout == "animation":
        return 1, 1
    if layout == "strip":
        return 1, count
    if columns is None:
        columns = math.ceil(math.sqrt(count))
    return math.ceil(count / columns), columns


def sheet(images: Sequence[Image], layout: Layout = "grid", columns: int | None = None) -> Image:
    """One image unchanged; several as a grid or a strip (see ``rows_and_columns``).

    Places of a grid that are left over are black, or clear where images have alpha.
    """
    if len(images) == 1:
        return images[0]
    rows, columns = rows_and_columns(len(images), layout, columns)
    height, width, *colour = images[0].shape
    blank = bytes((rows * columns - len(images)) * images[0].size)
    filled = np.frombuffer(pixel_bytes(images) + blank, dtype=np.uint8)
    # (rows, columns, H, W[, C]) -> (rows, H, columns, W[, C])
    grid = filled.reshape(rows, columns, height, width, *colour).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, *colour)
