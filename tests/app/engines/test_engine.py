"""Rows in, rows out: the same whatever the batch, on either engine."""

from math import nan
from pathlib import Path

import numpy as np
import pytest
import torch

from app.engines.backend import EngineName, Floats, Labels
from app.engines.engine import Engine
from app.engines.rows import OperationKey, Row, Sample
from app.engines.store import load_store
from tests.app.engines.conftest import NAMES, samples, warm_engine
from training.networks.checkpoint import load
from training.networks.configs import Operation
from training.networks.latents import normals


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
        np.array(warm_engine(load_store(tiny_store, k)[0]).run((name, "generate"), rows), np.int16)
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
    backend, key = engine.models[name].backend, (name, "generate")
    honest = backend.run

    def run(operation: Operation, batch: Floats, labels: Labels | None) -> tuple[Floats, ...]:
        fed.append(batch)
        return honest(operation, batch, labels)

    label = 3 if name == "tiny-cgan-v1" else None
    whole = engine.run(key, [Sample(5, label)])  # type: ignore[arg-type]
    monkeypatch.setattr(backend, "run", run)
    mixed = [Sample(5, label, truncation) for truncation in (1.0, 0.5, 0.0, 1.0)]
    results = engine.run(key, mixed)  # type: ignore[arg-type]
    z = normals(np.array([5], np.uint64), engine.models[name].network.latent_dim)
    np.testing.assert_array_equal(
        np.concatenate(fed)[:4], z * np.array([[1], [0.5], [0], [1]], np.float32)
    )
    for index in (0, 3):
        np.testing.assert_array_equal(results[index], whole[0])


def test_a_row_that_is_not_finite_fails_alone(engine: Engine) -> None:
    good = np.zeros(3, dtype=np.float32)
    bad = np.full(3, nan, dtype=np.float32)
    key: OperationKey = ("tiny-vae-v1", "decode")
    alone = engine.run(key, [good])[0]
    results = engine.run(key, [good, bad, good])
    assert isinstance(results[1], FloatingPointError)
    for index in (0, 2):
        np.testing.assert_array_equal(results[index], alone)


@pytest.mark.parametrize("max_batch", [1, 3, 64, 100])
def test_the_bytes_do_not_depend_on_max_batch(
    engine: Engine, tiny_store: Path, kind: EngineName, max_batch: int
) -> None:
    other = warm_engine(load_store(tiny_store, kind)[0], max_batch)
    rows = samples(150)
    key: OperationKey = ("tiny-cgan-v1", "generate")
    for one, two in zip(engine.run(key, rows), other.run(key, rows), strict=True):
        np.testing.assert_array_equal(one, two)
