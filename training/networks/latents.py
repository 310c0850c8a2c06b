"""From a seed to an image's latent, fixed for ever: half of the contract "same seed, same bytes".

Each image has one seed, and its latent depends on nothing else: not on the number of images
requested, its place in a batch, or a library's version. The numbers come from Philox4x32-10
(Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). Its output is a function of key
and counter, so a whole batch is computed at once.

    key     = the seed's low and high 32 bits
    counter = (block, part, stream, attempt)       block = 0, 1, 2, ...; the others are 0
    normals : stream 0; each block's four words x give two pairs by Box-Muller:
              r = sqrt(-2 ln((x[0] + 0.5) / 2^32)), a = 2 pi x[1] / 2^32 -> r cos a, r sin a
              (then x[2], x[3]); each the float32 that is nearest to the real number
    label   : stream 1, block 0: floor(x[0] * classes / 2^32)

Libraries' log, cos and sin may differ in their last bits, so the float32 is defined by the formula
and not by float64 arithmetic: the few numbers that float64 cannot round for certain, about one in a
million, are computed with sixty decimal digits.

``noise`` has the other distributions, of imported generators, and uses parts and attempts. A
checkpoint's golden digests rest on these numbers (``golden``).
"""

import decimal
from decimal import Decimal
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], dtype=np.uint64).reshape(2, 1, 1)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_NORMALS, _LABELS = 0, 1  # streams
FEW = 3  # seeds up to which Python's integers were measured to be faster than numpy
# What is added to the two halves of the key in each round: (rounds, 2, 1, 1).
_BUMPS = np.array(
    [[round_ * weyl & 0xFFFFFFFF for weyl in _WEYL] for round_ in range(_ROUNDS)], dtype=np.uint64
).reshape(_ROUNDS, 2, 1, 1)

# How far a float64 product r cos a or r sin a may be from the real number, over r: 6.9e-16 from
# rounding the angle, 8.9e-16 from a cos or sin that is right to 4 units in the last place, 6.6e-16
# from the log, the root and the product.
_ERROR = 2.0**-48  # 3.6e-15
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640629")

Words = NDArray[np.uint64]


def philox4x32(even: Words, odd: Words, keys: Words) -> tuple[Words, Words]:
    """Ten rounds of Philox4x32.

    Words of 32 bits are held in uint64, so that products keep their high halves. Even and odd words
    are kept apart, so that a round takes five calls of numpy on whole arrays: with few images, the
    calls are what costs.

    Args:
        even: The counters' words 0 and 2, (2, B, N); overwritten.
        odd: Words 1 and 3, the same shape; overwritten.
        keys: Their two words, (2, B, 1).

    Returns:
        The numbers' words 0 and 2, and words 1 and 3, shaped like the counters.
    """
    product = np.empty_like(even)
    crossed = product[::-1]
    for key in (keys + _BUMPS) & _MASK:
        np.multiply(even, _MULTIPLIERS, out=product)
        np.right_shift(crossed, _SHIFT, out=even)
        even ^= odd
        even ^= key
        np.bitwise_and(crossed, _MASK, out=odd)
    return even, odd


@lru_cache(16)
def _lanes(blocks: int) -> tuple[int, int]:
    """An integer with a one in each of ``blocks`` 64-bit lanes; and one with each lane's index."""
    return sum(1 << 64 * lane for lane in range(blocks)), sum(
        lane << 64 * lane for lane in range(blocks)
    )


def _philox_of_one(
    seed: int, blocks: int, stream: int, part: int, attempt: int
) -> tuple[bytes, bytes]:
    """``philox4x32`` of one seed's blocks, in Python's integers.

    A word of each block has its own 64-bit lane of one integer, with room for its products. The
    fifty calls of numpy above cost as much for one image as for twenty; this takes a fifth of that.

    Returns:
        Words 0 and 2, each of all blocks; words 1 and 3: 64-bit little-endian.
    """
    ones, word0 = _lanes(blocks)
    mask = ones * 0xFFFFFFFF
    word1, word2, word3 = ones * part, ones * stream, ones * attempt
    for round_ in range(_ROUNDS):
        key0 = (seed + round_ * _WEYL[0]) & 0xFFFFFFFF
        key1 = ((seed >> 32) + round_ * _WEYL[1]) & 0xFFFFFFFF
        product0, product2 = word0 * 0xD2511F53, word2 * 0xCD9E8D57
        word0, word1 = (product2 >> 32) & mask ^ word1 ^ ones * key0, product2 & mask
        word2, word3 = (product0 >> 32) & mask ^ word3 ^ ones * key1, product0 & mask
    size = 8 * blocks
    even = word0.to_bytes(size, "little") + word2.to_bytes(size, "little")
    return even, word1.to_bytes(size, "little") + word3.to_bytes(size, "little")


def random_words(
    seeds: Words, blocks: int, stream: int, part: int = 0, attempt: int = 0
) -> tuple[Words, Words]:
    """(B,) seeds -> random words 0 and 2 of each block (2, B, blocks), and words 1 and 3."""
    if len(seeds) <= FEW:
        pairs = [_philox_of_one(seed, blocks, stream, part, attempt) for seed in seeds.tolist()]
        shape = (len(seeds), 2, blocks)
        even, odd = (
            np.frombuffer(b"".join(words), "<u8").reshape(shape).swapaxes(0, 1)
            for words in zip(*pairs, strict=True)
        )
        return even, odd
    keys = np.stack([seeds & _MASK, seeds >> _SHIFT])[:, :, None]
    even = np.empty((2, len(seeds), blocks), dtype=np.uint64)
    even[0] = np.arange(blocks, dtype=np.uint64)
    even[1] = stream
    odd = np.empty_like(even)
    odd[0] = part
    odd[1] = attempt
    return philox4x32(even, odd, keys)


def normals(seeds: Words, size: int, part: int = 0, attempt: int = 0) -> NDArray[np.float32]:
    """Standard normal numbers, one row a seed: (B,) -> (B, size) float32, C order."""
    blocks = -(-size // 4)
    even, odd = random_words(seeds, blocks, _NORMALS, part, attempt)
    radius = even / 2.0**32
    radius += 0.5 / 2.0**32
    np.log(radius, out=radius)
    radius *= -2
    np.sqrt(radius, out=radius)  # (2, B, blocks): of each block's first pair, of its second
    angle = odd / 2.0**32
    angle *= 2 * np.pi
    values = np.empty((2, *radius.shape))  # cosine and sine
    np.cos(angle, out=values[0])
    np.sin(angle, out=values[1])
    values *= radius
    radius *= _ERROR
    numbers = (values + radius).astype(np.float32)
    uncertain = numbers != (values - radius).astype(np.float32)
    if uncertain.any():
        for index in zip(*uncertain.nonzero(), strict=True):
            sine, *place = map(int, index)
            numbers[index] = _normal(int(even[tuple(place)]), int(odd[tuple(place)]), bool(sine))
    # (cosine or sine, pair, B, blocks) -> (B, blocks, pair, cosine or sine)
    rows = np.ascontiguousarray(numbers.transpose(2, 3, 1, 0)).reshape(len(seeds), -1)
    return rows if 4 * blocks == size else rows[:, :size].copy()


def _normal(word0: int, word1: int, sine: bool) -> np.float32:
    """One number of a pair, r cos a or r sin a, from its two words: the nearest float32."""
    with decimal.localcontext(prec=60):
        radius = (-2 * (Decimal(2 * word0 + 1) / 2**33).ln()).sqrt()
        exact = radius * _sine_of_turn(word1 if sine else word1 + 2**30)
        near = np.float32(float(exact))
        around = (near, np.nextafter(near, np.float32(-9)), np.nextafter(near, np.float32(9)))
        # The detour over float64 may round twice; float32 in Decimal is exact.
        return min(around, key=lambda number: abs(Decimal(float(number)) - exact))


def _sine_of_turn(word: int) -> Decimal:
    """sin(2 pi word / 2^32), in the precision of the context."""
    quarter, rest = divmod(word, 2**30)
    if quarter % 2:
        rest = 2**30 - rest
    x = 2 * _PI * rest / 2**32  # 0 to pi / 2
    term = total = x
    for n in range(2, 60, 2):  # Taylor: below 1e-60 after 24 terms
        term *= -x * x / (n * (n + 1))
        total += term
    return -total if quarter % 4 >= 2 else total


def label_draws(seeds: Words, num_classes: int) -> NDArray[np.int64]:
    """Labels drawn from seeds: (B,) -> (B,), uniform in 0 to ``num_classes`` - 1."""
    even, _ = random_words(seeds, 1, _LABELS)
    return ((even[0, :, 0] * np.uint64(num_classes)) >> _SHIFT).astype(np.int64)
