"""The seeds of a data set: a stream of their own, opened by the data set's seed.

Image i of a split has the seed

    split 2^51 + P(i)           split: 0 without one, 1 train, 2 validation, 3 test

where P permutes the numbers below 2^51. So no seed comes twice in a data set, and none is in two
splits, whatever the data sets' seeds and sizes. P is a Feistel network of four rounds on the upper
26 and lower 25 bits of i, alternately: round r adds (xor) to one half the first bits of word x[0]
of Philox4x32-10 for

    key     = the data set's seed
    counter = (the other half, r, 4, split)

The counter's third word is a stream of ``training.networks.latents``, where nothing else uses 4.
"""

import numpy as np
from numpy.typing import NDArray

from training.networks.latents import philox4x32

SPLITS = ("", "train", "validation", "test")  # the place of each is its number
_STREAM = 4
_UPPER, _LOWER = 26, 25  # bits

_Words = NDArray[np.uint64]


def stream_seeds(seed: int, split: str, start: int, stop: int) -> NDArray[np.int64]:
    """The seeds of images ``start`` to ``stop`` of a data set.

    Args:
        seed: Of the data set.
        split: One of ``SPLITS``.
        start, stop: Below 2^51.
    """
    numbers = np.arange(start, stop, dtype=np.uint64)
    upper, lower = numbers >> np.uint64(_LOWER), numbers & np.uint64(2**_LOWER - 1)
    keys = np.array([seed & 0xFFFFFFFF, seed >> 32], dtype=np.uint64).reshape(2, 1, 1)
    place = SPLITS.index(split)
    for first in (0, 2):
        upper = upper ^ _words(lower, keys, first, place) >> np.uint64(32 - _UPPER)
        lower = lower ^ _words(upper, keys, first + 1, place) >> np.uint64(32 - _LOWER)
    permuted = (upper << np.uint64(_LOWER)) | lower
    return permuted.astype(np.int64) + (place << (_UPPER + _LOWER))


def _words(half: _Words, keys: _Words, round_: int, place: int) -> _Words:
    """The first random word for each half of a number, in one round."""
    even, odd = (np.empty((2, 1, len(half)), dtype=np.uint64) for _ in range(2))
    even[0], even[1], odd[0], odd[1] = half, _STREAM, round_, place
    words: _Words = philox4x32(even, odd, keys)[0][0, 0]
    return words
