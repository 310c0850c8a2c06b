"""Models loaded and probed before the fork, or by each worker."""

import dataclasses
import logging
import logging.handlers
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.backend import DeviceLostError
from app.engines.engine import Engine
from app.engines.loading import load_and_probe
from app.engines.onnx_backend import OnnxBackend
from app.engines.probe import Findings
from app.engines.rows import OperationKey, Sample
from app.errors import StartupError
from app.process.preload import load_before_fork
from app.settings import Settings
from tests.live_service import until
from training.networks.checkpoint import load, save


def test_a_device_that_is_lost_at_the_start_is_reported_in_a_line(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: Engine) -> None:
        raise DeviceLostError("the GPU fails whatever it is asked for")

    monkeypatch.setattr(Engine, "probe", lost)
    with pytest.raises(StartupError, match=r"^the GPU fails .* start the service again"):
        load_and_probe(Settings(models_dir=tiny_store))


def test_models_that_onnx_runtime_runs_in_one_thread_are_loaded_before_the_fork(
    tiny_store: Path,
) -> None:
    def loaded(**settings: Any) -> Any:
        return load_before_fork(Settings(models_dir=tiny_store, max_batch=8, **settings))

    shared = loaded(engine="onnx").result()
    assert {model.backend.engine for model in shared.engine.models.values()} == {"onnx"}
    assert set(shared.engine.reproducibility) == set(shared.engine.models)  # probed
    assert loaded(engine="onnx", threads=2) is None
    if find_spec("torch"):
        assert loaded(engine="torch") is None


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

    monkeypatch.setattr("app.process.preload.ForkedProbe", run)
    monkeypatch.setattr("app.engines.torch_backend.TorchBackend.run", run)
    assert load_before_fork(Settings(models_dir=tmp_path, device="cpu")) is None


def test_a_store_without_checkpoints_fails_before_the_fork(tmp_path: Path) -> None:
    for load_models in (load_and_probe, load_before_fork):
        with pytest.raises(StartupError, match="no checkpoint to serve"):
            load_models(Settings(models_dir=tmp_path, engine="onnx"))


def test_a_forked_probe_measures_what_one_in_this_process_measures(tiny_store: Path) -> None:
    settings = Settings(models_dir=tiny_store, engine="onnx")
    probe = load_before_fork(settings)
    assert probe
    there, here = probe.result(), load_and_probe(settings)
    assert there.engine.reproducibility == here.engine.reproducibility
    assert there.engine.fingerprints == here.engine.fingerprints
    assert there.engine.plans.keys() == here.engine.plans.keys()
    key: OperationKey = ("tiny-cgan-v1", "generate")
    rows = [Sample(seed, seed % 10) for seed in range(20)]
    for one, two in zip(there.engine.run(key, rows), here.engine.run(key, rows), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_findings_of_the_probe_arrive_whole(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["tiny-gan-v1", "tiny-cgan-v1"]
    findings = Findings(
        {(name, "generate"): [(1, 0.1 / 3), (64, 1e-3)] for name in names},
        {"tiny-gan-v1": "visual", "tiny-cgan-v1": "exact"},
        {name: f"{name}'s" for name in names},
        {"tiny-vae-v1": "\N{SNOWMAN}" * 2**17},  # more than a pipe holds
    )
    monkeypatch.setattr(Engine, "probe", lambda *_: findings)
    probe = load_before_fork(Settings(models_dir=tiny_store, engine="onnx"))
    assert probe
    engine, refused = probe.result()
    assert {key: plan.costs for key, plan in engine.plans.items()} == findings.costs
    assert (engine.reproducibility, engine.fingerprints) == findings[1:3]
    assert refused == {"tiny-vae-v1.safetensors": findings.failed["tiny-vae-v1"]}
    assert set(engine.models) == set(names)
    assert {plan.max_batch for plan in engine.plans.values()} == {256}


def test_what_a_probe_logs_last_is_written(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probe(*_: object) -> Findings:
        logging.getLogger("app.engines.probe").error("the last line")
        return Findings({}, {}, {}, {})

    monkeypatch.setattr(Engine, "probe", probe)
    file = logging.FileHandler(tmp_path / "log")
    late = logging.handlers.MemoryHandler(1000, flushLevel=logging.CRITICAL, target=file)
    logger = logging.getLogger("app.engines.probe")
    logger.addHandler(late)
    try:
        forked = load_before_fork(Settings(models_dir=tiny_store, engine="onnx"))
        assert forked
        forked.result()
    finally:
        logger.removeHandler(late)
        file.close()
    assert set((tmp_path / "log").read_text().splitlines()) == {"the last line"}


HANGING_PROBE = """
import os, signal, sys, time
from pathlib import Path
from app.engines.engine import Engine
from app.process.preload import load_before_fork
from app.settings import Settings

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # so one process probes

def probe(self, names):
    print(os.getpid(), flush=True)
    time.sleep(3600)

Engine.probe = probe
signal.signal(signal.SIGTERM, lambda *_: (print("the parent's handler", flush=True), os._exit(0)))
load_before_fork(Settings(models_dir=Path(sys.argv[1]), engine="onnx")).result()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_probe_ends_with_the_process_that_waits_for_it(
    tiny_store: Path, number: signal.Signals
) -> None:
    def gone(pid: int) -> bool:
        try:
            return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return True

    command = [sys.executable, "-c", HANGING_PROBE, str(tiny_store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert not gone(child)
        parent.send_signal(number)
        parent.wait(30)
    until(lambda: gone(child))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_signal_that_ends_the_probe_is_a_startup_error_of_the_parent(tiny_store: Path) -> None:
    command = [sys.executable, "-c", HANGING_PROBE, str(tiny_store)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as parent:
        assert parent.stdout
        os.kill(int(parent.stdout.readline()), signal.SIGTERM)
        out, error = parent.communicate(timeout=30)
    assert out == ""
    assert "StartupError" in error
    assert "with signal 15" in error


def test_a_model_that_fails_the_forked_probe_is_refused(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = OnnxBackend.run

    def run(self: OnnxBackend, operation: Any, batch: Any, labels: Any) -> Any:
        outputs = honest(self, operation, batch, labels)
        return (
            tuple(output * np.float32("nan") for output in outputs) if labels is None else outputs
        )

    monkeypatch.setattr(OnnxBackend, "run", run)
    probe = load_before_fork(Settings(models_dir=tiny_store, engine="onnx"))
    assert probe
    engine, refused = probe.result()
    assert set(engine.models) == {"tiny-cgan-v1"}
    assert set(refused) == {"tiny-gan-v1.safetensors", "tiny-vae-v1.safetensors"}


def test_a_model_that_kills_the_probe_is_a_startup_error(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "probe", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    probe = load_before_fork(Settings(models_dir=tiny_store, engine="onnx"))
    assert probe
    with pytest.raises(StartupError, match="with signal 9; the log"):
        probe.result()
