"""The numbers that a seed gives to a network's noise inputs, fixed for ever like ``latents``.

A network of ours has one input of normal numbers. An imported generator may have several, of other
distributions. Input i has the counter (block, i, stream, attempt), so that input 0 has the numbers
of ``latents.normals``; the attempt is 0 but where it is named:

    normal           : as there
    uniform          : stream 2; each word x: (2 x + 1) / 2^32 - 1, as the nearest float32
    truncated_normal : the normals of attempt 0, 1, 2, ...: for each number the first within -2 to 2
    sphere           : the normals over their length: the root of the float64 nearest to the sum of
                       their squares; the quotient in float64, then as the nearest float32
    categorical      : stream 3; word k of the blocks' words, in order: class
                       floor(x * classes / 2^32) of the k-th one-hot code
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.networks.configs import Config
from training.networks.graph.config import GraphConfig, Noise
from training.networks.latents import Words, normals, random_words

_UNIFORM, _CODES = 2, 3  # streams
_ATTEMPTS = 64  # a number misses with a chance of 0.046, so none ever takes as many
_MAX_TRUNCATED = np.float32(2)

Floats = NDArray[np.float32]


def noise_parts(network: Config) -> tuple[Noise, ...]:
    """The noise inputs that make up a latent, in order."""
    if isinstance(network, GraphConfig):
        return network.noise
    return (Noise("z", (network.latent_dim,)),)


def latents_of_seeds(network: Config, numbers: Sequence[int]) -> Floats:
    """The latent of each seed, not truncated: (B, Z)."""
    keys = np.array(numbers, dtype=np.uint64)
    if isinstance(network, GraphConfig):
        return draws(keys, network.noise)
    return normals(keys, network.latent_dim)


def draws(seeds: Words, parts: Sequence[Noise]) -> Floats:
    """The numbers of all noise inputs, one after the other: (B,) -> (B, sum of sizes) float32."""
    rows = [_DRAWS[part.distribution](seeds, part, i) for i, part in enumerate(parts)]
    return rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1)


def _normal(seeds: Words, part: Noise, index: int) -> Floats:
    return normals(seeds, part.size, index)


def _uniform(seeds: Words, part: Noise, index: int) -> Floats:
    words = _words_in_order(seeds, part.size, _UNIFORM, index)
    # Exact in float64: no more than 33 bits.
    return ((2 * words + np.uint64(1)) / 2.0**32 - 1).astype(np.float32)


def _truncated_normal(seeds: Words, part: Noise, index: int) -> Floats:
    rows = normals(seeds, part.size, index)
    for attempt in range(1, _ATTEMPTS):
        outside = np.abs(rows) > _MAX_TRUNCATED
        again = np.flatnonzero(outside.any(axis=1))
        if not len(again):
            break
        fresh = rows.copy()
        fresh[again] = normals(seeds[again], part.size, index, attempt)
        rows = np.where(outside, fresh, rows)
    return rows


def _sphere(seeds: Words, part: Noise, index: int) -> Floats:
    rows = normals(seeds, part.size, index).astype(np.float64)
    # fsum rounds once, so that the length does not depend on the order of the sum.
    lengths = [math.sqrt(math.fsum(row)) or 1.0 for row in (rows * rows).tolist()]
    unit: Floats = (rows / np.array(lengths)[:, None]).astype(np.float32)
    return unit


def _categorical(seeds: Words, part: Noise, index: int) -> Floats:
    codes = part.size // part.classes
    words = _words_in_order(seeds, codes, _CODES, index)
    classes = ((words * np.uint64(part.classes)) >> np.uint64(32)).astype(np.int64)
    one_hot = np.zeros((len(seeds), codes, part.classes), dtype=np.float32)
    np.put_along_axis(one_hot, classes[:, :, None], 1, axis=2)
    return one_hot.reshape(len(seeds), -1)


_DRAWS = {
    "normal": _normal,
    "uniform": _uniform,
    "truncated_normal": _truncated_normal,
    "sphere": _sphere,
    "categorical": _categorical,
}


def _words_in_order(seeds: Words, size: int, stream: int, part: int) -> Words:
    """Random words 0, 1, 2 and 3 of each block, block after block: (B, size)."""
    even, odd = random_words(seeds, -(-size // 4), stream, part)
    # (2, B, blocks) twice -> (B, blocks, 4)
    words = np.stack([even[0], odd[0], even[1], odd[1]], axis=-1)
    return words.reshape(len(seeds), -1)[:, :size]
