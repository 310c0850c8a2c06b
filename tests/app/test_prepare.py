"""When models are loaded before the processes are made, and when in each of them."""

import dataclasses
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from app import store
from app.errors import StartupError
from app.prepare import prepare, prepare_to_fork
from app.settings import Settings
from app.store import may_run_torch
from training.networks.checkpoint import load, save


@pytest.mark.parametrize(
    ("engine", "device", "torch", "driver", "may"),
    [
        ("auto", "auto", True, True, True),
        ("auto", "auto", True, False, False),
        ("auto", "auto", False, True, False),
        ("auto", "cpu", True, True, False),
        ("auto", "cuda", True, False, True),
        ("onnx", "auto", True, True, False),
        ("torch", "cpu", True, False, True),
    ],
)
def test_torch_may_run_where_it_is_asked_for_or_could_have_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    device: str,
    torch: bool,
    driver: bool,
    may: bool,
) -> None:
    monkeypatch.setattr(store, "find_spec", lambda _: object() if torch else None)
    monkeypatch.setattr(store, "_driver", lambda: object() if driver else None)
    assert may_run_torch(engine, device) is may


def test_a_fork_takes_models_along_that_onnx_runtime_runs_in_one_thread(tiny_store: Path) -> None:
    def prepared(**settings: Any) -> Any:
        return prepare_to_fork(Settings(models_dir=tiny_store, max_batch=8, **settings))

    shared = prepared(engine="onnx")
    assert {model.runner.engine for model in shared.engine.models.values()} == {"onnx"}
    assert set(shared.engine.grades) == set(shared.engine.models)  # probed
    assert prepared(engine="onnx", threads=2) is None
    if find_spec("torch"):
        assert prepared(engine="torch") is None


def test_where_one_checkpoint_has_no_graphs_nothing_is_run_before_the_fork(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in tiny_store.iterdir():
        shutil.copy(file, tmp_path)
    path = tmp_path / "tiny-gan-v1.safetensors"
    network, description = load(path)
    save(path, network, dataclasses.replace(description, graphs={}))

    def run(*_: Any) -> None:
        raise AssertionError("a model was run")

    monkeypatch.setattr("app.prepare.Engine", run)
    monkeypatch.setattr("app.engine_torch.TorchRunner.run", run)
    assert prepare_to_fork(Settings(models_dir=tmp_path, device="cpu")) is None


def test_what_cannot_be_loaded_is_told_before_there_are_processes(tmp_path: Path) -> None:
    for make in (prepare, prepare_to_fork):
        with pytest.raises(StartupError, match="no checkpoint to serve"):
            make(Settings(models_dir=tmp_path, engine="onnx"))
