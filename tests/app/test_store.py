"""A damaged file is refused by name, and the rest is served."""

import shutil
from pathlib import Path

import pytest

from app.store import StoreError, load_store


@pytest.fixture
def store(tiny_store: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_store, tmp_path / "store"))


def test_every_whole_checkpoint_is_loaded_by_the_name_of_its_file(store: Path) -> None:
    models, refused = load_store(store)
    assert set(models) == {"tiny-cgan-v1", "tiny-gan-v1", "tiny-vae-v1"}
    assert not refused
    assert len(models["tiny-cgan-v1"].description.digest) == 64


def test_a_tampered_file_is_refused_by_name_and_the_others_load(store: Path) -> None:
    path = store / "tiny-gan-v1.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1  # one bit of one weight
    path.write_bytes(data)
    models, refused = load_store(store)
    assert set(models) == {"tiny-cgan-v1", "tiny-vae-v1"}
    assert "damaged or altered" in refused["tiny-gan-v1.safetensors"]


def test_a_truncated_file_is_refused_by_name(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = store / "tiny-vae-v1.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    models, refused = load_store(store)
    assert "tiny-vae-v1" not in models
    assert "tiny-vae-v1.safetensors" in refused
    assert str(path) in caplog.text


def test_reasons_do_not_tell_strangers_where_the_store_is(store: Path) -> None:
    (store / "empty.safetensors").write_bytes(b"")
    _, refused = load_store(store)
    assert str(store) not in refused["empty.safetensors"]


def test_a_name_that_no_address_could_hold_is_refused(store: Path) -> None:
    shutil.copy(store / "tiny-gan-v1.safetensors", store / "My Model.safetensors")
    models, refused = load_store(store)
    assert "lower-case" in refused["My Model.safetensors"]
    assert len(models) == 3


def test_an_unfinished_publication_is_not_looked_at(store: Path) -> None:
    (store / ".tiny-gan-v2.safetensors.x.tmp").write_bytes(b"half")
    assert not load_store(store)[1]


def test_an_empty_or_missing_store_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is none"):
        load_store(tmp_path)
    with pytest.raises(StoreError, match="GENSERVE_MODELS_DIR"):
        load_store(tmp_path / "nowhere")


def test_a_store_of_damaged_files_alone_says_why(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(StoreError, match=r"x\.safetensors: "):
        load_store(tmp_path)
