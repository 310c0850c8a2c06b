"""Lists of seeds as text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.seeds import LIST_PATTERN, MAX_SEED, list_text, parse_list

NUMBERS = st.integers(0, 30) | st.integers(0, MAX_SEED)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_a_list_of_seeds_is_read_back_as_it_was_written(numbers: list[int]) -> None:
    text = list_text(numbers)
    assert re.fullmatch(LIST_PATTERN, text)
    assert parse_list(text, len(numbers)) == tuple(numbers)
    with pytest.raises(ValueError, match="at most"):
        parse_list(text, len(numbers) - 1)


@given(st.lists(st.tuples(NUMBERS, st.integers(0, 9)), min_size=1, max_size=9))
def test_every_list_has_one_canonical_form(runs: list[tuple[int, int]]) -> None:
    runs = [(first, min(first + more, MAX_SEED)) for first, more in runs]
    text = ",".join(f"{first}-{last}" for first, last in runs)
    expected = [number for first, last in runs for number in range(first, last + 1)]
    numbers = parse_list(text, 100)
    assert list(numbers) == expected
    assert parse_list(list_text(numbers), 100) == numbers
    assert list_text(parse_list(list_text(numbers), 100)) == list_text(numbers)


@given(st.text("0123456789-, x\n٣", max_size=12))
def test_what_is_no_list_is_refused_and_never_anything_else(text: str) -> None:
    try:
        numbers = parse_list(text, 8)
    except ValueError:
        return
    assert 1 <= len(numbers) <= 8
    assert re.fullmatch(LIST_PATTERN, text)


def test_a_run_too_long_is_refused_before_it_is_written_out() -> None:
    with pytest.raises(ValueError, match="64 seeds at most"):
        parse_list(f"0-{MAX_SEED}", 64)
