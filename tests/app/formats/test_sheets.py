"""Several images as one."""

import numpy as np

from app.formats.sheets import sheet


def test_a_grid_is_filled_row_by_row_and_black_where_nothing_is_left() -> None:
    images = [np.full((2, 3), value, dtype=np.uint8) for value in (10, 20, 30, 40, 50)]
    grid = sheet(images)
    assert grid.shape == (4, 9)
    assert grid[::2, ::3].tolist() == [[10, 20, 30], [40, 50, 0]]
