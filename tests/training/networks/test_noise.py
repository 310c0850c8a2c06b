"""From a seed to noise of other distributions: as described, and never another number."""

import hashlib

import mpmath
import numpy as np
import pytest

from tests.training.networks.philox_by_hand import block
from training.networks.graph.config import Noise
from training.networks.latents import normals
from training.networks.noise import draws


def words_of(seed: int, size: int, stream: int, part: int, attempt: int = 0) -> list[int]:
    """The words of a seed's blocks in order, computed one by one."""
    found: list[int] = []
    for index in range(-(-size // 4)):
        found += block(seed, index, (part, stream, attempt))
    return found[:size]


KNOWN = np.array([0, 42, 2**53 - 1, 9], dtype=np.uint64)


@pytest.mark.parametrize("count", [1, 4])  # few and many seeds are computed in two ways
def test_uniform_noise_is_as_described(count: int) -> None:
    drawn = draws(KNOWN[:count], [Noise("z", (3,)), Noise("z", (6,), "uniform")])
    for seed, row in zip(KNOWN[:count].tolist(), drawn, strict=True):
        expected = [(2 * x + 1) / 2**32 - 1 for x in words_of(seed, 6, 2, 1)]
        assert row[3:].tolist() == np.array(expected, np.float32).tolist()


@pytest.mark.parametrize("count", [1, 4])
def test_categorical_noise_is_as_described(count: int) -> None:
    drawn = draws(KNOWN[:count], [Noise("z", (2, 3), "categorical")])
    for seed, row in zip(KNOWN[:count].tolist(), drawn, strict=True):
        classes = [x * 3 >> 32 for x in words_of(seed, 2, 3, 0)]
        assert row.reshape(2, 3).tolist() == [[float(k == c) for k in range(3)] for c in classes]


def test_truncated_noise_is_the_first_of_its_normal_numbers_within_two() -> None:
    many = np.arange(50, dtype=np.uint64)
    drawn = draws(many, [Noise("z", (40,), "truncated_normal")])
    assert np.abs(drawn).max() <= 2
    attempts = [normals(many, 40, 0, attempt) for attempt in range(10)]
    for place in np.ndindex(drawn.shape):
        first = next(rows[place] for rows in attempts if abs(rows[place]) <= 2)
        assert drawn[place] == first
    assert (drawn != attempts[0]).any()


def test_noise_on_the_sphere_has_length_one_and_the_direction_of_its_normals() -> None:
    (row,) = draws(KNOWN[:1], [Noise("z", (9,), "sphere")])
    (drawn,) = normals(KNOWN[:1], 9).tolist()
    with mpmath.workdps(50):
        length = mpmath.sqrt(sum(mpmath.mpf(x) ** 2 for x in drawn))
        expected = [float(mpmath.mpf(x) / length) for x in drawn]
    assert row.tolist() == pytest.approx(expected, rel=1e-7)
    assert float(np.square(row.astype(np.float64)).sum()) == pytest.approx(1)


def test_the_first_input_has_the_numbers_of_a_lone_latent_and_others_have_their_own() -> None:
    one, other = np.split(draws(KNOWN, [Noise("z", (8,)), Noise("z", (8,))]), 2, axis=1)
    assert np.array_equal(one, normals(KNOWN, 8))
    assert not np.intersect1d(one, other).size


def test_noise_of_all_distributions_never_changes() -> None:
    parts = [
        *(
            Noise("z", (4,)),
            Noise("z", (4,), "uniform"),
            Noise("z", (4,), "truncated_normal"),
            Noise("z", (3,), "sphere"),
        ),
        *(Noise("z", (1, 4), "categorical"), Noise("z", (2,))),
    ]
    drawn = draws(np.array([42], dtype=np.uint64), parts)
    digest = hashlib.sha256(drawn.astype("<f4").tobytes()).hexdigest()
    assert digest == "c18cc186ef172e3cd4ae77d96545176309084c916548306779def48562970218"
    many = draws(np.arange(40, 45, dtype=np.uint64), parts)
    assert np.array_equal(many[2], drawn[0])
