"""What is kept ready of one model for who asks for one image at a time and gives no seed.

Such requests come from a loop in a notebook, or in quiet hours. A call for one image, of the random
numbers as of the network, then costs far more than a share of a call for several (docs/log.md). So
seeds are drawn ahead with their normal numbers; and once two requests in a row have asked for the
same label, its next images are made in the pass of one that was asked for, as a file system reads
ahead in a file that is read in order. Each seed, and so each image, is given away once, and its
pixels are what they would be without all this. Where many requests come at once it rests: they
share calls as they are.

One thread may ask for seeds and take images while another draws and keeps.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app import seeds

_NUMBERS = 4096  # drawn beside those that were asked for: a quarter of a millisecond
_NOTHING = -1  # no label's index

_Image = NDArray[np.uint8]


class _Made(NamedTuple):
    """Images that nobody has asked for yet."""

    label: int | None  # what the next request has to ask for
    seeds: deque[int]  # given to nobody
    images: dict[tuple[int, int | None], _Image]  # by seed, and by label on a conditional model
    rows: int  # of the pass that made them


class Ahead:
    """See the module.

    Args:
        size: Numbers of a seed.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._seeds: deque[int] = deque()  # that nobody has been given
        self._rows: dict[int, NDArray[np.float32]] = {}  # (1, size) by seed, not asked for yet
        self._label: int | None = _NOTHING  # that was asked for last
        self._again = False  # and before that as well
        self._made = _Made(_NOTHING, deque(), {}, 0)

    def seed(self, label: int | None = None) -> int:
        """``seeds.random_seed``, for one image of this label; None = of none in particular."""
        self._again, self._label = label == self._label, label
        made = self._made
        for ready in (made.seeds, self._seeds) if made.label == label else (self._seeds,):
            if ready:
                try:
                    return ready.popleft()
                except IndexError:  # another thread has taken the last
                    continue
        return seeds.random_seed()

    def normals(self, numbers: Sequence[int]) -> NDArray[np.float32]:
        """``seeds.normals`` of (B,) seeds; the caller's own."""
        if all(number in self._rows for number in numbers) and len({*numbers}) == len(numbers):
            rows = [self._rows.pop(number) for number in numbers]
            return rows[0] if len(rows) == 1 else np.concatenate(rows)
        if len(numbers) > 1 or self._seeds:
            return seeds.normals(np.array(numbers, dtype=np.uint64), self._size)
        fresh = [seeds.random_seed() for _ in range(_NUMBERS // self._size)]
        drawn = seeds.normals(np.array([*numbers, *fresh], dtype=np.uint64), self._size)
        self._rows = {seed: drawn[i : i + 1] for i, seed in enumerate(fresh, start=1)}
        self._seeds = deque(fresh)
        return drawn[:1]

    def more(self, seed: int, most: int) -> tuple[int | None, list[int]]:
        """Of what label, and with which seeds, images are to be made beside the one of a seed that
        is asked for alone: none, unless that label was asked for twice in a row, without a seed.
        """
        label = self._label
        more: list[int] = []
        if self._again and seed in self._rows:
            with suppress(IndexError):  # none is left
                for _ in range(most):
                    more.append(self._seeds.popleft())
        return label, more

    def keep(self, label: int | None, images: Iterable[tuple[int, int | None, _Image]]) -> None:
        """Have images ready for who asks for this label; those of before are dropped.

        Args:
            label: As ``more`` gave it.
            images: Each with its seed and its label.
        """
        made = {(seed, own): image for seed, own, image in images}
        self._made = _Made(label, deque(seed for seed, _ in made), made, 1 + len(made))

    def take(self, seed: int, label: int | None) -> tuple[_Image, int] | None:
        """The image of a seed, if it has been made ahead, and how many were made at once."""
        made = self._made
        image = made.images.pop((seed, label), None)
        return None if image is None else (image, made.rows)
