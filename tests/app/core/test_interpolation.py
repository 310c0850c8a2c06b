"""Paths and traversals through latents."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.interpolation import Method, path, traversal
from app.engines.rows import Latent

_numbers = st.floats(-100, 100, width=32, allow_subnormal=False).map(
    lambda number: round(number, 3)
)
_ends = st.integers(1, 8).flatmap(
    lambda size: st.lists(st.lists(_numbers, min_size=size, max_size=size), min_size=2, max_size=5)
)


def latents(rows: list[list[float]]) -> list[Latent]:
    return [np.array(row, dtype=np.float32) for row in rows]


@settings(deadline=None)  # the machine may be busy
@given(_ends, st.integers(1, 30), st.sampled_from(["slerp", "lerp"]))
def test_a_path_is_finite_has_its_steps_and_goes_through_its_ends(
    rows: list[list[float]], steps: int, method: Method
) -> None:
    ends = latents(rows)
    way, places = path(ends, steps, method)
    assert len(way) == len(places) == steps
    assert all(z.dtype == np.float32 and np.isfinite(z).all() for z in way)
    assert np.array_equal(way[0], ends[0])
    if steps > 1:
        assert np.array_equal(way[-1], ends[-1])
        assert places[-1] == len(ends) - 1
    for z, place in zip(way, places, strict=True):
        if place == int(place):
            assert np.array_equal(z, ends[int(place)])


def test_slerp_turns_evenly_and_keeps_the_length() -> None:
    way, _ = path(latents([[2, 0], [0, 2]]), 4, "slerp")
    angles = np.array([0, 30, 60, 90]) / 180 * np.pi
    assert np.allclose(way, 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1), atol=1e-6)
    way, _ = path(latents([[1, 0], [0, 3]]), 5, "slerp")
    assert np.allclose([np.linalg.norm(z) for z in way], [1, 1.5, 2, 2.5, 3])


def test_lerp_is_straight() -> None:
    way, places = path(latents([[2, 0], [0, 2], [0, 4]]), 5, "lerp")
    assert np.allclose(way, [[2, 0], [1, 1], [0, 2], [0, 3], [0, 4]])
    assert places.tolist() == [0, 0.5, 1, 1.5, 2]


@pytest.mark.parametrize("other", [[1, 2], [2, 4], [-1, -2], [0, 0], [-3, -6]])
def test_ends_in_one_line_with_0_are_joined_straight(other: list[float]) -> None:
    ends = latents([[1, 2], other])
    slerp, _ = path(ends, 7, "slerp")
    lerp, _ = path(ends, 7, "lerp")
    assert np.allclose(slerp, lerp)


@settings(deadline=None)  # the machine may be busy
@given(st.integers(0, 1000))
def test_between_draws_slerp_is_as_far_from_0_as_they_are(seed: int) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, 64)).astype(np.float32)
    way, _ = path([a, b], 9, "slerp")
    lengths = [float(np.linalg.norm(z)) for z in way]
    low, high = sorted((lengths[0], lengths[-1]))
    assert low * 0.999 <= min(lengths)
    assert max(lengths) <= high * 1.001


def test_a_traversal_sets_one_axis_at_a_time() -> None:
    start = np.array([5, 6, 7], dtype=np.float32)
    latents = traversal(start, [2, 0], [-1, 1])
    assert np.array_equal(latents, [[5, 6, -1], [5, 6, 1], [-1, 6, 7], [1, 6, 7]])
    assert start.tolist() == [5, 6, 7]
