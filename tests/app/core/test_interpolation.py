"""Paths and traversals through latents."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.interpolation import Method, draw, path, traversal
from app.engines.rows import Latent
from training.networks.latents import normals

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


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.01, 0.99))
def test_a_latent_on_an_arc_is_the_real_one_rounded(seed: int, bend: float) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, 8)).astype(np.float32)
    b = np.float32(bend) * a + np.float32(1 - bend) * b  # from nearly parallel to any angle
    way, places = path([a, b], 5, "slerp")
    for z, place in zip(way[1:-1], places[1:-1].tolist(), strict=True):
        with mpmath.workdps(50):
            one, other = (mpmath.matrix(end.astype(float).tolist()) for end in (a, b))
            lengths = [mpmath.norm(end) for end in (one, other)]
            cosine = (one.T * other)[0] / (lengths[0] * lengths[1])
            angle = mpmath.acos(cosine)
            parts = [mpmath.sin((1 - place) * angle), mpmath.sin(place * angle)]
            length = (1 - place) * lengths[0] + place * lengths[1]
            real = one * parts[0] / lengths[0] + other * parts[1] / lengths[1]
            real *= length / mpmath.sin(angle)
            for number, wanted in zip(z, real, strict=True):
                # Beside float32's own rounding, that of float64 on the way: of the whole latent.
                error = abs(float(number) - wanted)
                assert error <= 0.5 * float(np.spacing(abs(number))) + 1e-13 * length


def test_no_library_decides_a_latent_on_an_arc(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = list(np.random.default_rng(5).normal(size=(3, 64)).astype(np.float32))
    expected, _ = path(ends, 20, "slerp")

    def refused(*_: object) -> float:
        raise AssertionError("libraries differ in the last bit of this")

    for module, names in ((math, ("sin", "cos", "atan2", "atan", "acos")), (np.linalg, ("norm",))):
        for name in names:
            monkeypatch.setattr(module, name, refused)
    for name in ("sin", "cos", "arctan2", "arccos", "dot", "sum", "einsum"):
        monkeypatch.setattr(np, name, refused)
    assert np.array_equal(path(ends, 20, "slerp")[0], expected)


def test_a_draw_from_a_posterior_is_mu_and_noise_by_its_deviation() -> None:
    mu, logvar = np.random.default_rng(3).normal(size=(2, 64)).astype(np.float32)
    noise = normals(np.array([17], dtype=np.uint64), 64)[0]
    scale = np.array([float(mpmath.exp(mpmath.mpf(v) / 2)) for v in logvar.tolist()], np.float32)
    assert np.array_equal(draw(mu, logvar, 17), mu + scale * noise)
