"""Pieces of a mask are what a flood fill finds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from app.fitting.pieces import Box, pieces_of


def flooded(mask: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """The pieces one pixel after the other."""
    left, found = set(zip(*map(np.ndarray.tolist, np.nonzero(mask)), strict=True)), []
    while left:
        piece, edge = set(), [left.pop()]
        while edge:
            row, column = edge.pop()
            piece.add((row, column))
            around = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= around
            edge += around
        found.append(piece)
    return found


@pytest.mark.parametrize("share", [0, 0.1, 0.3, 0.5, 0.7, 1])
def test_pieces_are_those_of_a_flood_fill(share: float) -> None:
    random = np.random.default_rng(int(share * 10))
    for shape in ((1, 1), (1, 9), (9, 1), (17, 23), (30, 12)):
        mask = random.random(shape) < share
        pieces = pieces_of(mask)
        assert ((pieces.labels > 0) == mask).all()
        wanted = {frozenset(piece) for piece in flooded(mask)}
        assert len(pieces.area) == len(wanted)
        for index in range(len(pieces.area)):
            rows, columns = np.nonzero(pieces.labels == index + 1)
            places = frozenset(zip(rows.tolist(), columns.tolist(), strict=True))
            assert places in wanted
            assert pieces.area[index] == len(places)
            box = rows.min(), columns.min(), rows.max(), columns.max()
            assert pieces.box(index) == Box(*map(int, box))


def test_a_spiral_is_one_piece() -> None:
    mask = np.zeros((31, 31), np.bool_)
    for turn in range(0, 15, 2):
        last = 30 - turn
        mask[turn, max(turn - 2, 0) : last + 1] = mask[turn : last + 1, last] = True
        mask[last, turn : last + 1] = mask[turn + 2 : last + 1, turn] = True
    assert len(pieces_of(mask).area) == 1
