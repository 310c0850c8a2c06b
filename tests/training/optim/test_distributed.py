"""Two processes that share each batch train what one trains; the command that starts them."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from tests.training.tiny import ROOT, RUNS, failure, gan_run, lines, small, state, train, vae_run
from training.config import AnyRun
from training.data.dataset import Dataset
from training.networks.gan import MinibatchStddev
from training.optim import distributed
from training.optim.distributed import GlobalBatchNorm2d, GlobalMinibatchStddev, all_mean
from training.optim.hardware import Hardware, HardwareError, check_devices

SHARED: dict[str, AnyRun] = {
    "gan": gan_run(),  # batch norm, minibatch standard deviation, R1
    "cgan, spectral norm": gan_run("dcgan", num_classes=10),
    "gan, modes of z": RUNS["gan-modes"],
    "vae": RUNS["vae-conv"],
    "vae, distorted": RUNS["vae-distorted"],
    "vae, several draws": RUNS["vae-draws"],
    "vae, limited": vae_run(gradient_limit=1.0),
}


def in_two_processes(work: Callable[[int], None], meeting: Path) -> None:
    """Run ``work(rank)`` in two forks of this process, joined by gloo."""

    def worker(rank: int) -> None:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
        work(rank)
        dist.destroy_process_group()

    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=worker, args=(rank,)) for rank in range(2)]
    for process in workers:
        process.start()
    for process in workers:
        process.join(120)
    assert [process.exitcode for process in workers] == [0, 0]


def worst_difference(one: Path, other: Path) -> float:
    """The greatest difference of any weight, moment or average in two runs' states."""
    first, second = state(one), state(other)
    assert first.keys() == second.keys()
    return max(
        float((value.double() - second[key].double()).abs().max())
        for key, value in first.items()
        if not key.startswith("rng.")
    )


def test_two_processes_train_what_one_trains(digits: Dataset, tmp_path: Path) -> None:
    def work(rank: int) -> None:
        for name, settings in SHARED.items():
            folder = tmp_path / "two" / name
            folder.mkdir(parents=True, exist_ok=True)
            train(settings, digits, folder, 5, Hardware(rank=rank, processes=2))

    in_two_processes(work, tmp_path / "meeting")
    for name, settings in SHARED.items():
        alone = tmp_path / name
        train(settings, digits, alone, 5)
        assert worst_difference(alone, tmp_path / "two" / name) < 5e-6, name
        one, two = lines(alone), lines(tmp_path / "two" / name)
        assert len(one) == len(two) == 5
        for first, second in zip(one, two, strict=True):
            assert list(first.values()) == pytest.approx(list(second.values()), rel=1e-4, abs=1e-6)


def test_without_global_statistics_they_would_not(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "use_global_statistics", lambda _network: None)
    (tmp_path / "two").mkdir()

    def work(rank: int) -> None:
        hardware = Hardware(rank=rank, processes=2)
        train(SHARED["gan"], digits, tmp_path / "two", 4, hardware)

    in_two_processes(work, tmp_path / "meeting")
    train(SHARED["gan"], digits, tmp_path / "one", 4)
    assert worst_difference(tmp_path / "one", tmp_path / "two") > 1e-4


def test_a_shared_run_resumes_with_dropout_in_any_number_of_processes(
    digits: Dataset, tmp_path: Path
) -> None:
    def work(rank: int) -> None:
        hardware = Hardware(rank=rank, processes=2)
        for name in ("whole", "parts"):
            (tmp_path / name).mkdir(exist_ok=True)
        train(RUNS["gan-dense"], digits, tmp_path / "whole", 6, hardware)
        train(RUNS["gan-dense"], digits, tmp_path / "parts", 3, hardware)
        torch.manual_seed(rank)
        dist.barrier()  # rank 0's file is there
        train(RUNS["gan-dense"], digits, tmp_path / "parts", 6, hardware)

    in_two_processes(work, tmp_path / "meeting")
    assert worst_difference(tmp_path / "whole", tmp_path / "parts") == 0
    train(RUNS["gan-dense"], digits, tmp_path / "parts")  # one process takes it up
    assert lines(tmp_path / "parts")[-1]["step"] == 12


def test_global_layers_and_their_second_gradients_are_those_of_the_whole_batch(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 3, 4, 4, dtype=torch.float32)
    weight = torch.rand(3)

    def gradients(layer: nn.Module, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = rows.clone().requires_grad_()
        out = (layer(rows) ** 3).sum()
        (first,) = torch.autograd.grad(out, rows, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), rows)
        return first.detach(), second

    def layers() -> list[nn.Module]:
        norm = nn.BatchNorm2d(3)
        norm.weight.data.copy_(weight)
        return [norm, MinibatchStddev()]

    def work(rank: int) -> None:
        rows = slice(3 * rank, 3 * rank + 3)
        for layer in layers():
            expected = gradients(layer, x)
            together = nn.Sequential(layer)
            distributed.use_global_statistics(together)
            assert isinstance(layer, GlobalBatchNorm2d | GlobalMinibatchStddev)
            for found, whole in zip(gradients(together, x[rows]), expected, strict=True):
                torch.testing.assert_close(found, whole[rows], rtol=1e-4, atol=1e-4)
        mean = all_mean(torch.tensor([float(rank)]))
        assert mean.tolist() == [0.5]
        assert distributed.any_of(rank == 1)
        assert not distributed.any_of(False)

    in_two_processes(work, tmp_path / "meeting")


def test_in_eval_mode_a_global_layer_asks_no_other_process() -> None:
    norm = nn.BatchNorm2d(3).eval()
    x = torch.randn(2, 3, 4, 4)
    before = norm(x)
    distributed.use_global_statistics(norm)
    assert torch.equal(norm(x), before)


@pytest.mark.parametrize(("processes", "shares"), [(1, [10]), (2, [5, 5]), (5, [2] * 5)])
def test_rows_are_shared_evenly_and_in_order(processes: int, shares: list[int]) -> None:
    rows = [list(range(10))[Hardware(rank=r, processes=processes).rows(10)]
            for r in range(processes)]  # fmt: skip
    assert [len(part) for part in rows] == shares
    assert [row for part in rows for row in part] == list(range(10))


def test_a_batch_that_does_not_split_is_refused() -> None:
    with pytest.raises(ValueError, match="64 images does not split over 3 processes"):
        Hardware(processes=3).rows(64)


# The command.


def command(here: Path, *argv: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "training", *argv],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_devices_2_trains_one_run_and_ctrl_c_saves_it(made_up_mnist: Path, here: Path) -> None:
    argv = ["gan", *small(made_up_mnist), "--devices", "2", "--log-every", "1"]
    argv[argv.index("--epochs") + 1] = "1000"
    running = command(here, *argv)
    log = here / "runs/gan-compact-001/losses.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
        assert running.poll() is None, running.communicate()
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "40 images, on cpu and 1 more" in out
    assert out.count("run runs/gan-compact-001") == 1  # one of them speaks
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("stopped; step ")
    step = int(last.split()[2])
    assert json.loads(log.read_text().splitlines()[-1])["step"] == step
    assert [path.name for path in (here / "runs").iterdir()] == ["gan-compact-001"]
    assert state(here / "runs/gan-compact-001")


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_devices("auto", 2)
    check_devices("cpu", 3)
    with pytest.raises(HardwareError, match="--devices 3, but torch finds 2 GPUs"):
        check_devices("auto", 3)


def test_a_batch_that_does_not_split_is_one_line_before_any_process_starts(
    made_up_mnist: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "launch", lambda *_: pytest.fail("launched"))
    message = failure("gan", *small(made_up_mnist), "--devices", "3")
    assert "10 images does not split over 3 processes" in message
    assert list(here.iterdir()) == []


def test_the_first_process_that_fails_ends_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Python's own ``-m`` stands in for the program: rank 1 fails, rank 0 would wait for ever."""
    (tmp_path / "training").mkdir()
    (tmp_path / "training/__init__.py").touch()
    (tmp_path / "training/__main__.py").write_text(
        "import os, time\nif os.environ['RANK'] == '1': raise SystemExit(7)\ntime.sleep(600)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert distributed.launch(2, []) == 7
