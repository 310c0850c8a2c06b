"""A damaged file is refused by name, and the rest is served."""

import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from app.engines.store import StoreError, load_store
from app.errors import StartupError
from training.networks.checkpoint import load, save


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


@pytest.mark.parametrize("name", ["generator.pth", "G.pt", "last.ckpt"])
def test_weights_without_their_network_are_refused_with_the_command_that_imports_them(
    store: Path, tmp_path: Path, name: str
) -> None:
    (store / name).write_bytes(b"PK")
    models, refused = load_store(store)
    assert len(models) == 3
    assert f"genserve import mymodel:Generator --weights {name} --latent 100" in refused[name]
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / name).write_bytes(b"PK")
    with pytest.raises(StoreError, match="it holds weights, not the network they belong to"):
        load_store(tmp_path / "alone")


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


def engines(store: Path, **options: Any) -> dict[str, str]:
    """Name -> engine and device."""
    models, refused = load_store(store, **options)
    assert not refused
    return {name: f"{m.backend.engine} {m.backend.device}" for name, m in models.items()}


def without_graphs(store: Path, name: str) -> None:
    """Make a checkpoint like those that were published before graphs were exported."""
    path = store / f"{name}.safetensors"
    network, description = load(path)
    save(path, network, dataclasses.replace(description, graphs={}))
    for graph in store.glob(f"{name}.*.onnx"):
        graph.unlink()


@pytest.mark.slow
def test_what_was_exported_runs_on_onnx_and_the_rest_on_torch(store: Path) -> None:
    without_graphs(store, "tiny-gan-v1")
    assert engines(store, device="cpu") == {
        "tiny-cgan-v1": "onnx cpu",
        "tiny-gan-v1": "torch cpu",
        "tiny-vae-v1": "onnx cpu",
    }
    assert set(engines(store, engine="torch", device="cpu").values()) == {"torch cpu"}


def test_onnx_alone_refuses_what_was_not_exported_with_a_way_out(store: Path) -> None:
    without_graphs(store, "tiny-gan-v1")
    models, refused = load_store(store, engine="onnx")
    assert set(models) == {"tiny-cgan-v1", "tiny-vae-v1"}
    assert "python -m training export" in refused["tiny-gan-v1.safetensors"]


def test_where_torch_is_not_installed_what_needs_it_is_refused(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.engines.devices.torch_installed", lambda: False)
    assert set(engines(store).values()) == {"onnx cpu"}
    for engine, device in (("torch", "auto"), ("auto", "cuda")):
        with pytest.raises(StartupError, match="torch is not installed"):
            engines(store, engine=engine, device=device)
    without_graphs(store, "tiny-gan-v1")
    assert "has no graphs" in load_store(store)[1]["tiny-gan-v1.safetensors"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_only_the_driver_sees_is_not_used(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.engines.devices.gpu_count", lambda: 1)
    assert set(engines(store).values()) == {"onnx cpu"}
    with pytest.raises(StartupError, match="finds no GPU"):
        load_store(store, device="cuda")


def test_onnx_on_a_gpu_is_refused(store: Path) -> None:
    with pytest.raises(StartupError, match="choose one of them"):
        load_store(store, engine="onnx", device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_auto_is_torch_where_there_is_a_gpu(store: Path) -> None:
    assert set(engines(store).values()) == {"torch cuda"}


def test_a_tampered_graph_is_refused_by_name_and_the_others_load(store: Path) -> None:
    path = store / "tiny-vae-v1.encode.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    models, refused = load_store(store, engine="onnx")
    assert set(models) == {"tiny-cgan-v1", "tiny-gan-v1"}
    assert refused["tiny-vae-v1.safetensors"].startswith("tiny-vae-v1.encode.onnx: its SHA-256")
    assert str(store) not in refused["tiny-vae-v1.safetensors"]


def test_a_missing_graph_is_refused_by_name(store: Path) -> None:
    (store / "tiny-gan-v1.generate.onnx").unlink()
    refused = load_store(store, engine="onnx")[1]
    assert "tiny-gan-v1.generate.onnx: No such file" in refused["tiny-gan-v1.safetensors"]


def test_a_graph_of_another_network_or_operation_is_refused(store: Path) -> None:
    """With a right SHA-256: whoever makes a checkpoint can write that."""
    path = store / "tiny-vae-v1.safetensors"
    network, description = load(path)
    for other, reason in (
        ("tiny-gan-v1.generate", "where decode has"),
        ("tiny-vae-v1.encode", "where decode has"),
    ):
        data = (store / f"{other}.onnx").read_bytes()
        (store / "tiny-vae-v1.decode.onnx").write_bytes(data)
        changed = dataclasses.replace(
            description.graphs["decode"], sha256=hashlib.sha256(data).hexdigest()
        )
        graphs = description.graphs | {"decode": changed}
        save(path, network, dataclasses.replace(description, graphs=graphs))
        assert reason in load_store(store, engine="onnx")[1]["tiny-vae-v1.safetensors"]
