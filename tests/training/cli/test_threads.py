"""Threads wait passively, and by default there are as many as cores that the process may use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.tiny import ROOT, small
from training.__main__ import main
from training.cli.threads import default_threads, usable_cores


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "passive 0"),
        ({"OMP_WAIT_POLICY": "active"}, "active None"),
        ({"KMP_BLOCKTIME": "7"}, "passive 7"),
    ],
)
def test_the_wait_policy_is_set_before_torch_is_imported_unless_the_user_has_set_it(
    given: dict[str, str], expected: str, here: Path
) -> None:
    # A module in torch's place shows the environment that torch's OpenMP would read.
    Path("torch.py").write_text(
        "import os\n"
        "print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('KMP_BLOCKTIME'))\n"
        "os._exit(0)\n"
    )
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "KMP_"))}
    done = subprocess.run(
        [sys.executable, "-m", "training", "evaluate", "x"],
        env=inherited | {"PYTHONPATH": str(ROOT)} | given,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == expected, done.stderr


def quota(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("quotas", "group", "cores"),
    [
        ({}, "/", 8),
        ({"": "max 100000"}, "/", 8),
        ({"": "300000 100000"}, "/", 3),
        ({"": "250000 100000"}, "/", 2),  # whole cores
        ({"": "50000 100000"}, "/", 1),  # at least one
        ({"a/b": "200000 100000", "a": "400000 100000"}, "/a/b", 2),
        ({"a/b": "max 100000", "a": "400000 100000"}, "/a/b", 4),  # of a group above
        ({"": "300000 100000"}, "/not/visible/here", 3),  # a container's own group is the root
        ({"": "nonsense"}, "/", 8),
        ({"other": "100000 100000"}, "/a", 8),
    ],
)
def test_a_cpu_quota_limits_the_usable_cores(
    quotas: dict[str, str],
    group: str,
    cores: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    (tmp_path / "own").write_text(f"4:memory:/x\n0::{group}\n")
    for place, text in quotas.items():
        quota(tmp_path / "cgroup" / place, text)
    assert usable_cores(tmp_path / "cgroup", tmp_path / "own") == cores


def test_without_control_groups_the_affinity_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 3, 5})
    assert usable_cores(tmp_path / "none", tmp_path / "none") == 3


def test_omp_num_threads_comes_first_and_processes_share_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = usable_cores()
    assert default_threads() == cores
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert default_threads() == max(1, cores // 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "10000")
    assert default_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert default_threads() == 5


def test_the_first_line_of_a_run_says_how_many_threads_it_uses(
    made_up_mnist: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["gan", *small(made_up_mnist), "--preset", "dense", "--max-steps", "1"])
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith(f", 1 threads; this process may use {usable_cores()} cores")
