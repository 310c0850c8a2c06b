"""Which sizes the probe keeps, what it says of them, and what its times are worth."""

import itertools
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest

from app.engines.backend import REFERENCE, DeviceLostError, EngineName, Floats
from app.engines.batch_plan import INLINE_S, LEAST_ROWS
from app.engines.engine import Engine
from app.engines.store import load_store
from tests.app.engines.conftest import GAN, NAMES, changed_engine, samples, warm_engine


def sizes_of(engine: Engine) -> list[int]:
    return [size for size, _ in engine.plans[GAN].costs]


def test_sizes_whose_rows_differ_are_not_used(tiny_store: Path) -> None:
    engine = changed_engine(
        tiny_store, lambda z, pixels: pixels + np.float32(1e-7) * (len(z) in (3, 6))
    )
    engine.warm_up()
    assert 1 in sizes_of(engine)
    assert not {3, 6} & set(sizes_of(engine))
    assert engine.reproducibility["tiny-gan-v1"] == "exact"


def test_sizes_where_a_bad_neighbour_spreads_are_not_used(tiny_store: Path) -> None:
    def spread(z: Floats, pixels: Floats) -> Floats:
        return pixels + (0 * z.sum() if len(z) == 4 else np.float32(0))

    engine = changed_engine(tiny_store, spread)
    engine.warm_up()
    assert 4 not in sizes_of(engine)
    assert 2 in sizes_of(engine)


def test_a_device_that_does_not_repeat_itself_is_graded_visual(tiny_store: Path) -> None:
    random = np.random.default_rng(0)
    engine = changed_engine(tiny_store, lambda z, pixels: random.random(pixels.shape, np.float32))
    engine.warm_up()
    assert engine.reproducibility["tiny-gan-v1"] == "visual"
    assert sizes_of(engine) == [REFERENCE]
    assert len(engine.run(GAN, samples(3, labels=False))) == 3


def test_a_model_that_fails_its_probe_is_dropped_and_the_others_stay(tiny_store: Path) -> None:
    bad = changed_engine(tiny_store, lambda z, pixels: pixels * np.float32(nan)).models[
        "tiny-gan-v1"
    ]
    engine = Engine(load_store(tiny_store)[0] | {"tiny-gan-v1": bad}, 8)
    assert "FloatingPointError" in engine.warm_up()["tiny-gan-v1"]
    assert set(engine.models) == {"tiny-cgan-v1", "tiny-vae-v1"}


def test_sizes_for_which_there_is_no_memory_are_not_used(tiny_store: Path) -> None:
    def small(z: Floats, pixels: Floats) -> Floats:
        if len(z) == 4:
            raise MemoryError
        return pixels

    engine = changed_engine(tiny_store, small)
    assert engine.warm_up() == {}
    assert 4 not in sizes_of(engine)
    assert {2, 8} <= set(sizes_of(engine))


def test_a_device_that_is_lost_in_the_probe_ends_it(tiny_store: Path) -> None:
    def lost(z: Floats, pixels: Floats) -> Floats:
        raise DeviceLostError("the GPU fails whatever it is asked for")

    with pytest.raises(DeviceLostError):
        changed_engine(tiny_store, lost).warm_up()


def test_only_onnx_runtime_surely_ends_and_is_called_on_the_event_loop(
    engine: Engine, kind: EngineName
) -> None:
    for plan in engine.plans.values():
        assert bool(plan.inline_rows) == (kind == "onnx")
        assert plan.seconds(plan.inline_rows) <= INLINE_S


def test_every_operation_has_the_times_of_its_sizes(engine: Engine) -> None:
    assert set(engine.plans) == {
        (name, operation) for name in NAMES for operation in engine.operations(name)
    }
    for costs in (plan.costs for plan in engine.plans.values()):
        assert [size for size, _ in costs] == sorted({size for size, _ in costs})
        assert all(0 < seconds < 60 for _, seconds in costs)


def test_a_machine_that_is_slow_for_a_moment_spoils_no_cost(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the midst of the probe all takes three times as long: sizes that had their turn then
    looked dear, and of larger ones none was tried any more."""
    clock, calls = 0.0, 0

    def slow(z: Floats, pixels: Floats) -> Floats:
        nonlocal clock, calls
        calls += 1
        clock += (1 + len(z)) * (0.003 if 70 < calls < 125 else 0.001)
        return pixels

    monkeypatch.setattr("app.engines.probe.time.perf_counter", lambda: clock)
    monkeypatch.setattr("app.engines.probe.time.thread_time", lambda: clock)
    engine = changed_engine(tiny_store, slow)
    engine.warm_up()
    assert sizes_of(engine) == [1, 2, 3, 4, 6, 8]
    for size, seconds in engine.plans[GAN].costs:
        assert seconds == pytest.approx((1 + size) * 0.001)


@pytest.mark.parametrize("tick_s", [inf, 0.01])
def test_a_thread_clock_of_coarse_ticks_leaves_every_cost_right(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch, tick_s: float
) -> None:
    """Such a clock tells no time for most passes, and a whole tick for some."""
    ticks = itertools.count()
    monkeypatch.setattr(
        "app.engines.probe.time.thread_time",
        lambda: 0.0 if tick_s == inf else next(ticks) * tick_s,
    )
    engine = warm_engine(load_store(tiny_store, "onnx")[0])
    for _, seconds in itertools.chain.from_iterable(p.costs for p in engine.plans.values()):
        assert 0 < seconds < 0.005


@pytest.mark.parametrize(("row_s", "largest"), [(0.0005, LEAST_ROWS), (0.0002, 32), (0.00005, 64)])
def test_sizes_that_no_batch_would_have_are_not_tried(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch, row_s: float, largest: int
) -> None:
    """A call on the event loop may take INLINE_S: of slow rows it has the fewest there may be."""
    clock = 0.0

    def slow(z: Floats, pixels: Floats) -> Floats:
        nonlocal clock
        clock += (4 + len(z)) * row_s
        return pixels

    monkeypatch.setattr("app.engines.probe.time.perf_counter", lambda: clock)
    monkeypatch.setattr("app.engines.probe.time.thread_time", lambda: clock)
    engine = changed_engine(tiny_store, slow, max_batch=None)
    backend = engine.models["tiny-gan-v1"].backend
    monkeypatch.setattr(backend, "sizes", (1, 2, 4, 8, 16, 32, 64))
    backend.bounded_time = True
    engine.warm_up()
    assert max(sizes_of(engine)) == largest
    assert engine.plans[GAN].max_batch <= largest
