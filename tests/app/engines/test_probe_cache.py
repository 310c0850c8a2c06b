"""Remembered times: what they save, and that no file can make a row depend on its batch."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.engines.backend import Floats
from app.engines.engine import Engine
from app.engines.probe_cache import ProbeCache
from app.engines.store import StoredModel, load_store
from tests.app.engines.conftest import GAN, changed_engine

Calls = list[int]  # rows of each pass


def counted(
    store: Path, folder: Path, change: Callable[[Floats, Floats], Floats] = lambda _, pixels: pixels
) -> tuple[Engine, Calls]:
    """An engine of one model with a cache, and the passes that its probe made."""
    calls: Calls = []

    def noted(z: Floats, pixels: Floats) -> Floats:
        calls.append(len(z))
        return change(z, pixels)

    models = changed_engine(store, noted).models
    engine = Engine(models, 8, ProbeCache(folder, 8))
    engine.warm_up()
    return engine, calls


def kept(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "not/there"


def test_a_second_start_makes_a_few_passes_a_size_and_finds_the_same(
    tiny_store: Path, folder: Path
) -> None:
    first, all_passes = counted(tiny_store, folder)
    second, passes = counted(tiny_store, folder)
    assert second.plans[GAN].costs == first.plans[GAN].costs
    assert second.fingerprints == first.fingerprints
    assert second.reproducibility == first.reproducibility == {"tiny-gan-v1": "exact"}
    assert len(passes) <= 1 + 3 * len(second.plans[GAN].costs) < len(all_passes) / 4


def test_sizes_that_do_not_repeat_any_more_are_not_used_whatever_the_file_says(
    tiny_store: Path, folder: Path
) -> None:
    counted(tiny_store, folder)
    engine, _ = counted(tiny_store, folder, lambda z, p: p + np.float32(1e-7) * (len(z) == 4))
    sizes = [size for size, _ in engine.plans[GAN].costs]
    assert 2 in sizes
    assert 4 not in sizes


def test_a_size_where_a_bad_neighbour_spreads_is_not_used_whatever_the_file_says(
    tiny_store: Path, folder: Path
) -> None:
    counted(tiny_store, folder)
    engine, _ = counted(tiny_store, folder, lambda z, p: p + (0 * z.sum() if len(z) == 4 else 0))
    assert 4 not in [size for size, _ in engine.plans[GAN].costs]


@pytest.mark.parametrize("place", [0, 3])
def test_a_size_that_fails_in_one_place_is_not_used_whatever_the_file_says(
    tiny_store: Path, folder: Path, place: int
) -> None:
    def change(z: Floats, pixels: Floats) -> Floats:
        if len(z) == 4:
            pixels[place] += np.float32(1e-7)
        return pixels

    counted(tiny_store, folder)
    engine, _ = counted(tiny_store, folder, change)
    assert 4 not in [size for size, _ in engine.plans[GAN].costs]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[]",
        "{}",
        '{"generate": []}',
        '{"generate": [[1, "x"]]}',
        '{"generate": [[1, NaN]]}',
        '{"generate": [[1, -1.0]]}',
        '{"generate": [[1, 1e99]]}',
        '{"generate": [[3000000, 0.1]]}',
        '{"generate": [[true, 0.1]]}',
        '{"generate": [[2, 0.1], [1, 0.1]]}',
        '{"generate": [[1, 9.0]]}',  # of another machine
        '{"generate": [[1, 1e-9]]}',
        '{"generate": [[1, 0.001]], "encode": [[1, 0.001]]}',
        "[" * 9999,
        " " * 70000,
    ],
)
def test_a_file_that_says_anything_else_is_measured_anew(
    tiny_store: Path, folder: Path, text: str
) -> None:
    counted(tiny_store, folder)
    kept(folder).write_text(text)
    engine, passes = counted(tiny_store, folder)
    assert len(passes) > 64  # each row alone
    assert 8 in [size for size, _ in engine.plans[GAN].costs]
    assert set(json.loads(kept(folder).read_text())) == {"generate"}  # written again


def test_a_link_is_not_followed(tiny_store: Path, folder: Path, tmp_path: Path) -> None:
    counted(tiny_store, folder)
    file, elsewhere = kept(folder), tmp_path / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    assert len(counted(tiny_store, folder)[1]) > 64
    assert elsewhere.read_bytes() == before
    assert not file.is_symlink()


def test_where_nothing_can_be_written_the_models_are_served_all_the_same(
    tiny_store: Path, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("no folder")
    engine, _ = counted(tiny_store, taken / "below")
    assert engine.reproducibility == {"tiny-gan-v1": "exact"}
    engine, _ = counted(tiny_store, taken)
    assert taken.read_text() == "no folder"


def test_times_of_other_settings_are_others(tiny_store: Path, folder: Path) -> None:
    model: StoredModel = load_store(tiny_store)[0]["tiny-gan-v1"]
    ProbeCache(folder, 8).keep(model, {"generate": [(1, 0.5)]})
    assert ProbeCache(folder, 8).times(model) == {"generate": [(1, 0.5)]}
    assert ProbeCache(folder, 16).times(model) is None
    model.backend.threads += 1
    assert ProbeCache(folder, 8).times(model) is None
