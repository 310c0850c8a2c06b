"""A portable checkpoint: the same bytes on either engine, and said loudly where they are not."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest

from app.engines.backend import Floats
from app.engines.engine import Engine
from app.engines.rows import Point, Row, Sample
from app.engines.store import StoredModel, load_store
from tests.app.engines.conftest import NAMES, ChangedBackend, samples, warm_engine
from training.networks.configs import Operation
from training.networks.golden import golden_inputs
from training.networks.header import Description


@pytest.fixture(scope="module")
def engines(portable_store: Path) -> tuple[Engine, Engine]:
    """ONNX Runtime's and torch's."""
    one, other = (warm_engine(load_store(portable_store, e)[0]) for e in ("onnx", "torch"))
    return one, other


def rows_of(model: StoredModel, operation: Operation, count: int) -> list[Row]:
    batch, _ = golden_inputs(model.network, operation, count)
    if operation == "generate":
        return samples(count, labels=bool(model.network.num_classes))
    if operation == "encode":
        return list((batch[:, 0] * 255).round().astype(np.uint8))
    return list(batch)


@pytest.mark.parametrize("name", NAMES)
def test_both_engines_give_the_golden_digests_and_the_same_bytes(
    engines: tuple[Engine, Engine], name: str
) -> None:
    for engine in engines:
        assert engine.reproducibility[name] == "portable"
    model = engines[0].models[name]
    for operation in model.operations:
        rows = rows_of(model, operation, 300)
        results = [engine.run((name, operation), rows) for engine in engines]
        for one, other in zip(*results, strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_image_does_not_depend_on_its_batch(engines: tuple[Engine, Engine]) -> None:
    key = ("tiny-cgan-v1", "generate")
    rows = samples(16)
    together = engines[0].run(key, rows)  # type: ignore[arg-type]
    for place, row in enumerate(rows):
        np.testing.assert_array_equal(engines[0].run(key, [row])[0], together[place])  # type: ignore[arg-type]


def test_a_row_that_is_not_finite_fails_alone(engines: tuple[Engine, Engine]) -> None:
    bad = Point(np.full(4, np.nan, np.float32), 3)
    for engine in engines:
        results = engine.run(("tiny-cgan-v1", "generate"), [Sample(1, 3), bad, Sample(2, 3)])
        assert isinstance(results[1], FloatingPointError)
        alone = engine.run(("tiny-cgan-v1", "generate"), [Sample(2, 3)])[0]
        np.testing.assert_array_equal(results[2], alone)


def test_what_pixels_depend_on_names_the_machine_only_where_it_matters(
    engines: tuple[Engine, Engine], tiny_store: Path
) -> None:
    name = "tiny-cgan-v1"
    digest = engines[0].models[name].description.digest
    assert [engine.identity(name) for engine in engines] == [digest, digest]
    floating = warm_engine(load_store(tiny_store)[0])
    own = floating.models[name].description.digest
    assert floating.identity(name) == f"{own} {floating.fingerprints[name]}"
    floating.reproducibility[name] = "visual"
    assert floating.identity(name) is None


def with_golden(model: StoredModel, golden: str) -> Description:
    graphs = dict(model.description.graphs)
    graphs["generate"] = dataclasses.replace(graphs["generate"], golden=golden)
    return dataclasses.replace(model.description, graphs=graphs)


def test_a_machine_that_misses_the_golden_digests_says_so_and_serves_as_exact(
    portable_store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_store(portable_store)[0]["tiny-gan-v1"]
    missed = dataclasses.replace(model, description=with_golden(model, "0" * 64))
    with caplog.at_level(logging.ERROR):
        engine = warm_engine({model.name: missed})
    assert engine.reproducibility[model.name] == "exact"
    assert "tiny-gan-v1 is portable, but not on this machine: generate with onnx" in caplog.text


def test_a_machine_that_rounds_one_pixel_otherwise_is_found_out(portable_store: Path) -> None:
    model = load_store(portable_store)[0]["tiny-gan-v1"]

    def one_level_more(z: Floats, levels: Floats) -> Floats:
        changed = levels.copy()
        third = np.flatnonzero(z[:, 0] == golden_inputs(model.network, "generate")[0][3, 0])
        changed[third, 0, 5, 5] ^= 1
        return changed

    backend = ChangedBackend(model.backend, one_level_more)
    engine = warm_engine({model.name: dataclasses.replace(model, backend=backend)}, 8)
    assert engine.reproducibility[model.name] == "exact"


def test_a_checkpoint_in_floating_point_is_never_portable(tiny_store: Path) -> None:
    engine = warm_engine(load_store(tiny_store)[0])
    assert set(engine.reproducibility.values()) == {"exact"}
