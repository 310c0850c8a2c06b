"""From a seed to a latent: the published vectors, and numbers that must never change."""

from typing import Any

import mpmath
import numpy as np
import pytest

from tests.training.networks.philox_by_hand import block
from training.networks import latents

MAX_SEED = 2**53 - 1
# Each has a number that float64 cannot round for certain.
_UNSURE = [10848, 19364, 35337, 54535, 64888, 73891, 97095, 126602]


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        # The known-answer vectors that the authors publish with Random123 (philox4x32, 10 rounds).
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (
            [0xFFFFFFFF] * 4,
            [0xFFFFFFFF] * 2,
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_words(
    counter: list[int], key: list[int], words: list[int]
) -> None:
    even, odd, keys = (
        np.array(pair, np.uint64).reshape(2, 1, 1) for pair in (counter[::2], counter[1::2], key)
    )
    even, odd = latents.philox4x32(even, odd, keys)
    assert [*even.flat, *odd.flat] == [*words[::2], *words[1::2]]


def test_latents_of_known_seeds_never_change() -> None:
    known = np.array([0, 42, MAX_SEED], dtype=np.uint64)
    expected = _by_the_description([0, 42, MAX_SEED], 6)
    np.testing.assert_array_equal(latents.normals(known, 6), np.array(expected, np.float32))
    assert latents.normals(known, 6)[1].round(4).tolist() == pytest.approx(_SEED_42, abs=1e-4)


def test_normal_numbers_are_the_nearest_to_the_real_ones() -> None:
    # Seeds of numbers that float64 cannot round for certain, and others.
    numbers = [*_UNSURE, *range(20)]
    drawn = latents.normals(np.array(numbers, dtype=np.uint64), 64)
    for seed, row in zip(numbers, drawn, strict=True):
        words = [word for index in range(16) for word in block(seed, index)]
        for (a, b), pair in zip(
            zip(words[::2], words[1::2], strict=True), row.reshape(-1, 2), strict=True
        ):
            with mpmath.workdps(80):
                radius = mpmath.sqrt(-2 * mpmath.log(mpmath.mpf(2 * a + 1) / 2**33))
                turn = 2 * mpmath.pi * b / 2**32
                for number, real in zip(
                    pair, (radius * mpmath.cos(turn), radius * mpmath.sin(turn)), strict=True
                ):
                    gap = np.abs(np.spacing(number))
                    assert abs(mpmath.mpf(float(number)) - real) <= mpmath.mpf(float(gap)) / 2


@pytest.mark.parametrize("last_places", [-4, 4])
def test_another_librarys_last_places_change_no_number(
    monkeypatch: pytest.MonkeyPatch, last_places: int
) -> None:
    numbers = np.array([*_UNSURE, *range(10_000)], dtype=np.uint64)
    expected = latents.normals(numbers, 64)

    def elsewhere(function: Any) -> Any:
        def computed(values: Any, out: Any) -> Any:
            function(values, out=out)
            noise = np.random.default_rng(1).integers(-4, 5, out.shape) + last_places
            out += np.clip(noise, -4, 4) * np.spacing(out)
            return out

        return computed

    for name in ("log", "cos", "sin"):
        monkeypatch.setattr(np, name, elsewhere(getattr(np, name)))
    np.testing.assert_array_equal(latents.normals(numbers, 64), expected)


def test_a_latent_depends_on_its_own_seed_alone() -> None:
    numbers = np.random.default_rng(0).integers(0, MAX_SEED, 300).astype(np.uint64)
    together = latents.normals(numbers, 64)
    for index in (0, 1, 150, 299):
        alone = latents.normals(numbers[index : index + 1], 64)
        np.testing.assert_array_equal(alone[0], together[index])
    reversed_ = latents.normals(np.ascontiguousarray(numbers[::-1]), 64)
    np.testing.assert_array_equal(reversed_[::-1], together)


@pytest.mark.parametrize("size", [1, 4, 64, 784])
def test_few_and_many_seeds_are_computed_differently_to_the_same_numbers(size: int) -> None:
    numbers = np.array([0, 1, 42, 2**32 - 1, 2**32, 2**53 - 1, 0xDEADBEEF1234], dtype=np.uint64)
    assert 1 <= latents.FEW < len(numbers)
    for index, number in enumerate(numbers):
        one = np.array([number])
        np.testing.assert_array_equal(
            latents.normals(one, size)[0], latents.normals(numbers, size)[index]
        )
        assert latents.label_draws(one, 10)[0] == latents.label_draws(numbers, 10)[index]


def test_a_shorter_latent_is_the_beginning_of_a_longer_one() -> None:
    numbers = np.arange(5, dtype=np.uint64)
    np.testing.assert_array_equal(latents.normals(numbers, 7), latents.normals(numbers, 100)[:, :7])


def test_latents_are_standard_normal() -> None:
    z = latents.normals(np.arange(20_000, dtype=np.uint64), 16).astype(np.float64)
    assert abs(z.mean()) < 0.01
    assert z.var() == pytest.approx(1, abs=0.01)
    assert (z**4).mean() == pytest.approx(3, abs=0.05)
    correlation = np.corrcoef(z.T) - np.eye(16)
    assert np.abs(correlation).max() < 0.05  # neither dimensions nor neighbouring seeds agree


def test_labels_are_uniform_and_independent_of_the_latent() -> None:
    numbers = np.arange(50_000, dtype=np.uint64)
    labels = latents.label_draws(numbers, 10)
    shares = np.bincount(labels, minlength=10) / len(labels)
    assert np.abs(shares - 0.1).max() < 0.006
    z = latents.normals(numbers, 1)[:, 0]
    assert abs(np.corrcoef(z, labels)[0, 1]) < 0.02


def _by_the_description(numbers: list[int], size: int) -> list[list[float]]:
    """The module's docstring in plain Python, word by word."""
    import math

    rows = []
    for seed in numbers:
        row: list[float] = []
        for index in range(-(-size // 4)):
            x = block(seed, index)
            for a, b in ((x[0], x[1]), (x[2], x[3])):
                radius = math.sqrt(-2 * math.log((a + 0.5) / 2**32))
                angle = 2 * math.pi * b / 2**32
                row += [radius * math.cos(angle), radius * math.sin(angle)]
        rows.append(row[:size])
    return rows


_SEED_42 = [-0.9702, 0.1940, -1.2356, 1.9239, -0.0732, 0.1391]  # as released; fixed for ever
