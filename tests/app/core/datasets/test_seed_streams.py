"""Seeds of data sets: none twice, none in two splits, and the same for ever."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.datasets.seed_streams import SPLITS, stream_seeds
from app.seeds import MAX_SEED
from tests.training.networks.philox_by_hand import block

seeds = st.integers(0, MAX_SEED)


def test_a_hundred_data_sets_share_no_seed() -> None:
    """Of seeds that people take, 25 of each split: 200,000 images."""
    found = [
        stream_seeds(seed, split, 0, 2000)
        for seed in (*range(20), 42, 100, 1234, 2024, MAX_SEED)
        for split in SPLITS
    ]
    assert len(found) == 100
    assert len(np.unique(np.concatenate(found))) == 200_000


def test_no_seed_comes_twice_in_a_large_set() -> None:
    for split in SPLITS:
        assert np.diff(np.sort(stream_seeds(7, split, 0, 1_000_000))).all()


@given(seeds, seeds, st.integers(0, 2**51 - 1), st.integers(0, 2**51 - 1))
def test_splits_are_disjoint_whatever_the_seeds_and_numbers(
    one: int, other: int, i: int, j: int
) -> None:
    """Each split has a range of seeds of its own."""
    for place, split in enumerate(SPLITS):
        for seed, number in ((one, i), (other, j)):
            (found,) = stream_seeds(seed, split, number, number + 1).tolist()
            assert place * 2**51 <= found < (place + 1) * 2**51 <= MAX_SEED + 1


@given(seeds, st.sampled_from(SPLITS), st.integers(0, 2**51 - 100), st.integers(1, 99))
def test_a_seed_depends_on_its_number_alone(seed: int, split: str, start: int, count: int) -> None:
    whole = stream_seeds(seed, split, start, start + count)
    assert len(set(whole.tolist())) == count
    np.testing.assert_array_equal(
        whole[count // 2 :], stream_seeds(seed, split, start + count // 2, start + count)
    )


def test_the_permutation_can_be_undone() -> None:
    """By the formula in Python's integers, backwards: so no two numbers share a seed."""

    for seed in (0, 1, 2**40 + 5, MAX_SEED):
        for place, split in enumerate(SPLITS):
            for number in (0, 1, 2**25, 2**51 - 1):
                (found,) = stream_seeds(seed, split, number, number + 1).tolist()
                upper, lower = divmod(found - place * 2**51, 2**25)
                for round_ in (3, 2, 1, 0):
                    if round_ % 2:
                        lower ^= block(seed, upper, (round_, 4, place))[0] >> 7
                    else:
                        upper ^= block(seed, lower, (round_, 4, place))[0] >> 6
                assert upper * 2**25 + lower == number


def test_the_stream_never_changes() -> None:
    """Permalinks of data sets stand for these."""
    assert stream_seeds(42, "train", 0, 3).tolist() == GOLDEN


@pytest.mark.parametrize("split", ["Train", "all"])
def test_another_split_is_none(split: str) -> None:
    with pytest.raises(ValueError, match="not in"):
        stream_seeds(1, split, 0, 1)


GOLDEN = [2689910246205505, 3798318070055944, 3210754063431899]
