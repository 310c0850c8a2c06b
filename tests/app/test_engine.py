"""Rows in, rows out: the same whatever the batch."""

from math import nan
from pathlib import Path

import numpy as np
import pytest
import torch

from app.engine import REFERENCE, Engine, Lane, Row, Sample, candidate_sizes
from app.store import load_store


@pytest.fixture
def engine(tiny_store: Path) -> Engine:
    engine = Engine(load_store(tiny_store)[0], torch.device("cpu"), max_batch=16)
    engine.start_thread()
    engine.warm_up()
    return engine


def samples(count: int) -> list[Row]:
    return [Sample(seed=1000 + i, label=i % 10) for i in range(count)]


@pytest.mark.parametrize("name", ["tiny-cgan-v1", "tiny-gan-v1", "tiny-vae-v1"])
def test_a_sample_has_the_same_bytes_in_every_batch(engine: Engine, name: str) -> None:
    assert engine.grades[name] == "exact"
    rows = samples(16)
    if name != "tiny-cgan-v1":
        rows = [Sample(row.seed) for row in rows if isinstance(row, Sample)]
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


def test_pixels_are_the_networks_rounded_to_bytes(engine: Engine) -> None:
    network = engine.models["tiny-vae-v1"].network
    z = np.linspace(-2, 2, 3, dtype=np.float32)
    (image,) = engine.run(("tiny-vae-v1", "decode"), [z])
    with torch.inference_mode():
        expected = network.generate(torch.from_numpy(z)[None])[0, 0]
    assert isinstance(image, np.ndarray)
    assert image.dtype == np.uint8
    assert image.shape == (28, 28)
    assert np.abs(image / 255 - expected.numpy()).max() <= 0.5 / 255 + 1e-5


def test_the_label_changes_the_image(engine: Engine) -> None:
    one, other = engine.run(("tiny-cgan-v1", "generate"), [Sample(5, 3), Sample(5, 4)])
    assert not np.array_equal(one, other)  # type: ignore[arg-type]


def test_a_row_that_is_not_finite_fails_alone(engine: Engine) -> None:
    good = np.zeros(3, dtype=np.float32)
    bad = np.full(3, np.nan, dtype=np.float32)
    lane = ("tiny-vae-v1", "decode")
    alone = engine.run(lane, [good])[0]  # type: ignore[arg-type]
    results = engine.run(lane, [good, bad, good])  # type: ignore[arg-type]
    assert isinstance(results[1], FloatingPointError)
    for index in (0, 2):
        np.testing.assert_array_equal(results[index], alone)


def test_a_network_left_in_training_mode_is_refused(tiny_store: Path) -> None:
    models, _ = load_store(tiny_store)
    models["tiny-cgan-v1"].network.train()
    with pytest.raises(AssertionError):
        Engine(models, torch.device("cpu"), 8)


@pytest.mark.parametrize("largest", [1, 2, 5, 64, 100])
def test_padding_wastes_at_most_a_third(largest: int) -> None:
    sizes = candidate_sizes(largest)
    assert sizes[-1] == max(largest, REFERENCE)
    for rows in range(1, largest + 1):
        size = next(s for s in sizes if s >= rows)
        assert size <= max(1, rows * 1.5)


def test_sizes_whose_rows_differ_are_not_used(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, _ = load_store(tiny_store)
    network = models["tiny-gan-v1"].network
    honest = network.generate

    def depends_on_size(z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return honest(z, labels) + (1e-7 if len(z) in (3, 6) else 0)

    monkeypatch.setattr(network, "generate", depends_on_size)
    engine = Engine({"tiny-gan-v1": models["tiny-gan-v1"]}, torch.device("cpu"), 8)
    engine.warm_up()
    assert not {3, 6} & set(engine.sizes["tiny-gan-v1", "generate"])
    assert engine.grades["tiny-gan-v1"] == "exact"


def test_a_device_that_does_not_repeat_itself_is_graded_visual(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, _ = load_store(tiny_store)
    network = models["tiny-gan-v1"].network
    monkeypatch.setattr(network, "generate", lambda z, labels=None: torch.rand(len(z), 1, 28, 28))
    engine = Engine({"tiny-gan-v1": models["tiny-gan-v1"]}, torch.device("cpu"), 8)
    engine.warm_up()
    assert engine.grades["tiny-gan-v1"] == "visual"
    assert engine.sizes["tiny-gan-v1", "generate"] == [REFERENCE]


@pytest.mark.parametrize("max_batch", [1, 3, 8, 64, 100])
def test_the_bytes_do_not_depend_on_max_batch(
    engine: Engine, tiny_store: Path, max_batch: int
) -> None:
    other = Engine(load_store(tiny_store)[0], torch.device("cpu"), max_batch)
    other.start_thread()
    other.warm_up()
    rows = samples(150)
    lane: Lane = ("tiny-cgan-v1", "generate")
    for one, two in zip(engine.run(lane, rows), other.run(lane, rows), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_model_that_fails_its_probe_is_dropped_and_the_others_stay(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, _ = load_store(tiny_store)
    bad = models["tiny-gan-v1"].network
    monkeypatch.setattr(
        bad, "generate", lambda z, labels=None: torch.full((len(z), 1, 28, 28), nan)
    )
    engine = Engine(models, torch.device("cpu"), 8)
    assert "FloatingPointError" in engine.warm_up()["tiny-gan-v1"]
    assert set(engine.models) == {"tiny-cgan-v1", "tiny-vae-v1"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_gives_what_the_cpu_gives_within_a_grey_level(
    engine: Engine, tiny_store: Path
) -> None:
    on_gpu = Engine(load_store(tiny_store)[0], torch.device("cuda"), max_batch=16)
    on_gpu.warm_up()
    lane = ("tiny-cgan-v1", "generate")
    rows = samples(8)
    for ours, theirs in zip(engine.run(lane, rows), on_gpu.run(lane, rows), strict=True):  # type: ignore[arg-type]
        assert np.abs(np.subtract(ours, theirs, dtype=np.int16)).max() <= 1  # type: ignore[arg-type]
