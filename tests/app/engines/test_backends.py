"""Bytes and floats turned into each other, and what a GPU's errors mean."""

import weakref
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
import torch

from app.engines.backend import DeviceLostError, from_levels, to_levels
from app.engines.engine import Engine
from app.engines.rows import OperationKey
from app.engines.store import StoreError, load_store
from app.engines.torch_backend import device_errors
from tests.app.engines.conftest import samples, warm_engine
from training.networks.checkpoint import network_of
from training.networks.gan import Generator


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
    on_gpu = warm_engine(load_store(tiny_store, "torch", "cuda")[0])
    key: OperationKey = ("tiny-cgan-v1", "generate")
    rows = samples(8)
    for ours, theirs in zip(engine.run(key, rows), on_gpu.run(key, rows), strict=True):
        assert np.abs(np.subtract(ours, theirs, dtype=np.int16)).max() <= 1  # type: ignore[arg-type]


def test_a_network_left_in_training_mode_is_refused(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "app.engines.torch_backend.network_of", lambda contents: network_of(contents).train()
    )
    with pytest.raises(StoreError, match="AssertionError"):
        load_store(tiny_store, "torch")
