"""Rows in, rows out: the same whatever the batch, on either engine."""

import dataclasses
import itertools
import weakref
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from app.engines.backend import Backend, DeviceLostError, EngineName, Floats, from_levels, to_levels
from app.engines.engine import REFERENCE, Engine, plan
from app.engines.rows import OperationKey, Row, Sample
from app.engines.store import StoredModel, StoreError, load_store
from app.engines.torch_backend import device_errors
from app.seeds import normals
from training.networks.checkpoint import load, network_of
from training.networks.configs import Operation
from training.networks.gan import Generator

NAMES = ("tiny-cgan-v1", "tiny-gan-v1", "tiny-vae-v1")
Labels = NDArray[np.int64] | None


@pytest.fixture(params=["onnx", "torch"])
def kind(request: pytest.FixtureRequest) -> Literal["onnx", "torch"]:
    name: Literal["onnx", "torch"] = request.param
    return name


def made(models: dict[str, StoredModel], max_batch: int = 16) -> Engine:
    engine = Engine(models, max_batch)
    engine.start_thread()
    assert engine.warm_up() == {}
    return engine


@pytest.fixture
def engine(tiny_store: Path, kind: EngineName) -> Engine:
    engine = made(load_store(tiny_store, kind)[0])
    assert {model.backend.engine for model in engine.models.values()} == {kind}
    return engine


def samples(count: int, labels: bool = True) -> list[Row]:
    return [Sample(1000 + i, i % 10 if labels else None) for i in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_has_the_same_bytes_in_every_batch(engine: Engine, name: str) -> None:
    assert engine.reproducibility[name] == "exact"
    rows = samples(16, labels=name == "tiny-cgan-v1")
    together = engine.run((name, "generate"), rows)
    for size in range(1, 16):
        for index, image in enumerate(engine.run((name, "generate"), rows[:size][::-1])):
            np.testing.assert_array_equal(image, together[size - 1 - index])


def test_encodings_and_decodings_have_the_same_bits_in_every_batch(engine: Engine) -> None:
    random = np.random.default_rng(0)
    images: list[Row] = list(random.integers(0, 256, (16, 28, 28), dtype=np.uint8))
    together = engine.run(("tiny-vae-v1", "encode"), images)
    for size in (1, 2, 3, 7, 15):
        for one, other in zip(
            engine.run(("tiny-vae-v1", "encode"), images[:size]), together[:size], strict=True
        ):
            assert isinstance(one, tuple)
            assert isinstance(other, tuple)
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])


def test_pixels_are_the_networks_rounded_to_bytes(engine: Engine, tiny_store: Path) -> None:
    network, _ = load(tiny_store / "tiny-vae-v1.safetensors")
    z = np.linspace(-2, 2, 3, dtype=np.float32)
    (image,) = engine.run(("tiny-vae-v1", "decode"), [z])
    with torch.inference_mode():
        expected = network.generate(torch.from_numpy(z)[None])[0, 0]
    assert isinstance(image, np.ndarray)
    assert image.dtype == np.uint8
    assert image.shape == (28, 28)
    assert np.abs(image / 255 - expected.numpy()).max() <= 0.5 / 255 + 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_both_engines_draw_the_same_picture(tiny_store: Path, name: str) -> None:
    rows = samples(40, labels=name == "tiny-cgan-v1")
    one, other = (
        np.array(made(load_store(tiny_store, k)[0]).run((name, "generate"), rows), np.int16)
        for k in ("onnx", "torch")
    )
    assert np.abs(one - other).max() <= 1  # a value that lies between two levels
    assert (one != other).mean() < 1e-3
    assert len(np.unique(one)) > 2  # a picture of one grey would show nothing


def test_the_label_changes_the_image(engine: Engine) -> None:
    one, other = engine.run(("tiny-cgan-v1", "generate"), [Sample(5, 3), Sample(5, 4)])
    assert not np.array_equal(one, other)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_truncation_scales_the_latent_of_its_own_row(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[Floats] = []
    backend, lane = engine.models[name].backend, (name, "generate")
    honest = backend.run

    def run(operation: Operation, batch: Floats, labels: Labels) -> tuple[Floats, ...]:
        fed.append(batch)
        return honest(operation, batch, labels)

    label = 3 if name == "tiny-cgan-v1" else None
    whole = engine.run(lane, [Sample(5, label)])  # type: ignore[arg-type]
    monkeypatch.setattr(backend, "run", run)
    mixed = [Sample(5, label, truncation) for truncation in (1.0, 0.5, 0.0, 1.0)]
    results = engine.run(lane, mixed)  # type: ignore[arg-type]
    z = normals(np.array([5], np.uint64), engine.models[name].network.latent_dim)
    np.testing.assert_array_equal(
        np.concatenate(fed)[:4], z * np.array([[1], [0.5], [0], [1]], np.float32)
    )
    for index in (0, 3):
        np.testing.assert_array_equal(results[index], whole[0])


def test_a_row_that_is_not_finite_fails_alone(engine: Engine) -> None:
    good = np.zeros(3, dtype=np.float32)
    bad = np.full(3, nan, dtype=np.float32)
    lane: OperationKey = ("tiny-vae-v1", "decode")
    alone = engine.run(lane, [good])[0]
    results = engine.run(lane, [good, bad, good])
    assert isinstance(results[1], FloatingPointError)
    for index in (0, 2):
        np.testing.assert_array_equal(results[index], alone)


def test_a_network_left_in_training_mode_is_refused(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "app.engines.torch_backend.network_of", lambda contents: network_of(contents).train()
    )
    with pytest.raises(StoreError, match="AssertionError"):
        load_store(tiny_store, "torch")


def _total(cuts: list[int], costs: dict[int, float], rows: int) -> float:
    seconds = 0.0
    while rows > 0:
        size = cuts[rows]
        seconds += costs[size]
        rows -= size
    return seconds


@pytest.mark.parametrize(
    "costs",
    [
        {1: 1.0},
        {64: 3.0},
        {1: 1.0, 2: 1.9, 4: 3.9, 8: 7.7, 16: 16.0},  # a row costs the same in every batch
        {4: 1.0, 6: 1.1, 8: 1.2, 64: 2.0},  # a pass costs the same for every row
    ],
)
def test_a_plan_takes_the_least_time_that_any_way_to_cut_takes(costs: dict[int, float]) -> None:
    cuts = plan(sorted(costs.items()), 12)
    for rows in range(1, 13):
        ways = (
            sum(costs[size] for size in way)
            for passes in range(1, rows + 1)
            for way in itertools.combinations_with_replacement(costs, passes)
            if sum(way) >= rows
        )
        assert _total(cuts, costs, rows) == pytest.approx(min(ways))


class Changed(Backend):
    """A network whose outputs a test changes."""

    engine: ClassVar[EngineName] = "onnx"
    sizes: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 6, 8)

    def __init__(self, honest: Backend, change: Callable[[Floats, Floats], Floats]) -> None:
        self.device, self.threads = "cpu", 1
        self._honest, self._change = honest, change

    def run(self, operation: Operation, batch: Floats, labels: Labels) -> tuple[Floats, ...]:
        (pixels,) = self._honest.run(operation, batch, labels)
        return (self._change(batch, pixels),)


def changed(store: Path, change: Callable[[Floats, Floats], Floats]) -> Engine:
    """An engine with one network, whose pixels are ``change(z, pixels)``."""
    model = load_store(store)[0]["tiny-gan-v1"]
    return Engine(
        {model.name: dataclasses.replace(model, backend=Changed(model.backend, change))}, 8
    )


LANE: OperationKey = ("tiny-gan-v1", "generate")


def sizes_of(engine: Engine) -> list[int]:
    return [size for size, _ in engine.costs[LANE]]


def test_sizes_whose_rows_differ_are_not_used(tiny_store: Path) -> None:
    engine = changed(tiny_store, lambda z, pixels: pixels + np.float32(1e-7) * (len(z) in (3, 6)))
    engine.warm_up()
    assert 1 in sizes_of(engine)
    assert not {3, 6} & set(sizes_of(engine))
    assert engine.reproducibility["tiny-gan-v1"] == "exact"


def test_sizes_where_a_bad_neighbour_spreads_are_not_used(tiny_store: Path) -> None:
    def spread(z: Floats, pixels: Floats) -> Floats:
        return pixels + (0 * z.sum() if len(z) == 4 else np.float32(0))

    engine = changed(tiny_store, spread)
    engine.warm_up()
    assert 4 not in sizes_of(engine)
    assert 2 in sizes_of(engine)


def test_a_device_that_does_not_repeat_itself_is_graded_visual(tiny_store: Path) -> None:
    random = np.random.default_rng(0)
    engine = changed(tiny_store, lambda z, pixels: random.random(pixels.shape, np.float32))
    engine.warm_up()
    assert engine.reproducibility["tiny-gan-v1"] == "visual"
    assert sizes_of(engine) == [REFERENCE]
    assert len(engine.run(LANE, samples(3, labels=False))) == 3


def test_a_model_that_fails_its_probe_is_dropped_and_the_others_stay(tiny_store: Path) -> None:
    bad = changed(tiny_store, lambda z, pixels: pixels * np.float32(nan)).models["tiny-gan-v1"]
    engine = Engine(load_store(tiny_store)[0] | {"tiny-gan-v1": bad}, 8)
    assert "FloatingPointError" in engine.warm_up()["tiny-gan-v1"]
    assert set(engine.models) == {"tiny-cgan-v1", "tiny-vae-v1"}


def test_sizes_for_which_there_is_no_memory_are_not_used(tiny_store: Path) -> None:
    def small(z: Floats, pixels: Floats) -> Floats:
        if len(z) == 4:
            raise MemoryError
        return pixels

    engine = changed(tiny_store, small)
    assert engine.warm_up() == {}
    assert 4 not in sizes_of(engine)
    assert {2, 8} <= set(sizes_of(engine))


def test_a_device_that_is_lost_in_the_probe_ends_it(tiny_store: Path) -> None:
    def lost(z: Floats, pixels: Floats) -> Floats:
        raise DeviceLostError("the GPU fails whatever it is asked for")

    with pytest.raises(DeviceLostError):
        changed(tiny_store, lost).warm_up()


@pytest.mark.parametrize("max_batch", [1, 3, 64, 100])
def test_the_bytes_do_not_depend_on_max_batch(
    engine: Engine, tiny_store: Path, kind: EngineName, max_batch: int
) -> None:
    other = made(load_store(tiny_store, kind)[0], max_batch)
    rows = samples(150)
    lane: OperationKey = ("tiny-cgan-v1", "generate")
    for one, two in zip(engine.run(lane, rows), other.run(lane, rows), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("engine_name", "batch_s"), [("onnx", 0.005), ("torch", 0.010)])
def test_where_nobody_chose_a_batch_takes_some_milliseconds(
    tiny_store: Path, engine_name: EngineName, batch_s: float
) -> None:
    engine = Engine(load_store(tiny_store, engine_name, "cpu")[0], None)
    engine.warm_up()
    assert engine.max_batch.keys() == engine.costs.keys()
    for lane, costs in engine.costs.items():
        row_s = min(s / size for size, s in costs)
        most = engine.max_batch[lane]
        assert most in (2**power for power in range(3, 13))
        if 8 < most < 4096:
            assert most * row_s <= batch_s < 2 * most * row_s
    most = engine.max_batch["tiny-cgan-v1", "generate"]
    assert len(engine.run(("tiny-cgan-v1", "generate"), samples(most + 1))) == most + 1


def test_what_is_done_at_once_takes_five_milliseconds_and_only_where_it_surely_ends(
    engine: Engine, kind: EngineName
) -> None:
    assert engine.inline_rows.keys() == engine.costs.keys()
    for lane, rows in engine.inline_rows.items():
        assert bool(rows) == (kind == "onnx")
        costs = dict(engine.costs[lane])
        assert sum(costs[size] for _, _, size in engine.pieces(lane, rows)) <= 0.005


@pytest.mark.parametrize(
    ("fixed_s", "row_s", "most"), [(0.020, 0.0003, 0), (0.002, 0.0005, 4), (0.0, 0.00005, 64)]
)
def test_a_pass_with_a_fixed_cost_is_done_at_once_for_fewer_rows(
    tiny_store: Path, fixed_s: float, row_s: float, most: int
) -> None:
    engine = Engine(load_store(tiny_store, "onnx")[0], 64)
    found = engine.probe()
    sizes = (1, 2, 4, 8, 16, 32, 64)
    found.costs[LANE] = [(size, fixed_s + row_s * size) for size in sizes]
    engine.adopt(found)
    assert engine.inline_rows[LANE] == most


def test_every_operation_has_the_times_of_its_sizes(engine: Engine) -> None:
    assert set(engine.costs) == {
        (name, operation) for name in NAMES for operation in engine.operations(name)
    }
    for costs in engine.costs.values():
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

    monkeypatch.setattr("app.engines.engine.time.perf_counter", lambda: clock)
    monkeypatch.setattr("app.engines.engine.time.thread_time", lambda: clock)
    engine = changed(tiny_store, slow)
    engine.warm_up()
    assert sizes_of(engine) == [1, 2, 3, 4, 6, 8]
    for size, seconds in engine.costs[LANE]:
        assert seconds == pytest.approx((1 + size) * 0.001)


@pytest.mark.parametrize("tick_s", [inf, 0.01])
def test_a_thread_clock_of_coarse_ticks_leaves_every_cost_right(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch, tick_s: float
) -> None:
    """Such a clock tells no time for most passes, and a whole tick for some."""
    ticks = itertools.count()
    monkeypatch.setattr(
        "app.engines.engine.time.thread_time",
        lambda: 0.0 if tick_s == inf else next(ticks) * tick_s,
    )
    engine = made(load_store(tiny_store, "onnx")[0])
    for _, seconds in itertools.chain.from_iterable(engine.costs.values()):
        assert 0 < seconds < 0.005


@pytest.mark.parametrize("shape", [(5, 1, 4, 6), (5, 3, 4, 6)])
def test_levels_and_pixels_are_turned_into_each_other(shape: tuple[int, ...]) -> None:
    levels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = levels[:, 0] if shape[1] == 1 else levels.transpose(0, 2, 3, 1)
    images, finite = to_levels(levels.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(images, expected)
    assert finite is None
    np.testing.assert_array_equal(from_levels(images), levels / np.float32(255))


@pytest.mark.parametrize("bad", [[nan], [inf], [inf, -inf]])
def test_an_image_with_one_bad_pixel_is_not_finite(bad: list[float]) -> None:
    pixels = np.zeros((3, 1, 2, 2), dtype=np.float32)
    pixels[1, 0, 1, : len(bad)] = bad
    images, finite = to_levels(pixels)
    assert finite is not None
    assert finite.tolist() == [True, False, True]
    assert not images.any()


@pytest.mark.parametrize("answers", [True, False])
def test_a_gpu_that_answers_nothing_after_an_error_is_lost(
    monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    def synchronize() -> None:
        if not answers:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    with pytest.raises(RuntimeError if answers else DeviceLostError), device_errors("cuda"):
        raise RuntimeError("CUDA error")
    with pytest.raises(RuntimeError, match=r"^the pass failed$"), device_errors("cpu"):
        raise RuntimeError("the pass failed")


def test_what_a_pass_without_room_had_made_is_freed_first(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []

    def fails(self: Generator, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        half_made = torch.zeros(3)
        made.append(weakref.ref(half_made))
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Generator, "generate", fails)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(made[0]() is not None))
    backend = load_store(tiny_store, "torch", "cpu")[0]["tiny-gan-v1"].backend
    with pytest.raises(MemoryError):
        backend.run("generate", np.zeros((1, 8), np.float32), None)
    assert alive == [False]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_gives_what_the_cpu_gives_within_a_grey_level(
    engine: Engine, tiny_store: Path
) -> None:
    on_gpu = made(load_store(tiny_store, "torch", "cuda")[0])
    lane: OperationKey = ("tiny-cgan-v1", "generate")
    rows = samples(8)
    for ours, theirs in zip(engine.run(lane, rows), on_gpu.run(lane, rows), strict=True):
        assert np.abs(np.subtract(ours, theirs, dtype=np.int16)).max() <= 1  # type: ignore[arg-type]
