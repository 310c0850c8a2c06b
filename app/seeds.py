"""From a seed to an image's latent: fixed for ever, for it is half of the reproducibility contract.

Each image has one seed, and its latent depends on nothing else: not on how many images were
asked for, nor on its place in a batch, nor on a library's version. The numbers come from
Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), whose output
is a function of key and counter, so a whole batch is computed at once.

    key     = the seed's low and high 32 bits
    counter = (block, 0, stream, 0)       block = 0, 1, 2, ...
    normals : stream 0; each block's four words x give two pairs by Box-Muller in float64:
              r = sqrt(-2 ln((x[0] + 0.5) / 2^32)), a = 2 pi x[1] / 2^32 -> r cos a, r sin a
              (then x[2], x[3]); rounded to float32
    label   : stream 1, block 0: floor(x[0] * classes / 2^32)
"""

import numpy as np
from numpy.typing import NDArray

MAX_SEED = 2**53 - 1  # the largest whole number that every JSON reader holds exactly

_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], dtype=np.uint64)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_NORMALS, _LABELS = 0, 1  # streams


def philox4x32(counters: NDArray[np.uint64], keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Ten rounds of Philox4x32.

    Args:
        counters: (..., 4) words of 32 bits.
        keys: (..., 2) words of 32 bits, broadcast against the counters' leading axes.

    Returns:
        (..., 4) words of 32 bits, all in uint64 so that products keep their high halves.
    """
    even, odd = counters[..., 0::2], counters[..., 1::2]  # words 0 and 2; words 1 and 3
    for round_ in range(10):
        bump = np.array([round_ * weyl & 0xFFFFFFFF for weyl in _WEYL], dtype=np.uint64)
        product = even * _MULTIPLIERS
        mixed = (product >> _SHIFT)[..., ::-1] ^ odd ^ ((keys + bump) & _MASK)
        even, odd = mixed, product[..., ::-1] & _MASK
    return np.stack([even, odd], axis=-1).reshape(*even.shape[:-1], 4)


def _words(seeds: NDArray[np.uint64], blocks: int, stream: int) -> NDArray[np.uint64]:
    """(B,) seeds -> (B, blocks, 4) random words."""
    keys = np.stack([seeds & _MASK, seeds >> _SHIFT], axis=-1)[:, None, :]
    counters = np.zeros((len(seeds), blocks, 4), dtype=np.uint64)
    counters[..., 0] = np.arange(blocks)
    counters[..., 2] = stream
    return philox4x32(counters, keys)


def normals(seeds: NDArray[np.uint64], size: int) -> NDArray[np.float32]:
    """Standard normal numbers, one row a seed: (B,) -> (B, size) float32."""
    words = _words(seeds, -(-size // 4), _NORMALS).astype(np.float64) / 2.0**32
    radius = np.sqrt(-2 * np.log(words[..., 0::2] + 0.5 / 2.0**32))  # (B, blocks, 2)
    angle = 2 * np.pi * words[..., 1::2]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return pairs.reshape(len(seeds), -1)[:, :size].astype(np.float32)


def label_draws(seeds: NDArray[np.uint64], num_classes: int) -> NDArray[np.int64]:
    """The label of an image for which none was asked: (B,) -> (B,), uniform in 0 to classes - 1."""
    words = _words(seeds, 1, _LABELS)[:, 0, 0]
    return ((words * np.uint64(num_classes)) >> _SHIFT).astype(np.int64)
