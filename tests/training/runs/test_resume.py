"""Resuming to the bit, and states that survive a kill or a full disk."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.tiny import RUNS, assert_same, gan_run, lines, state, train, vae_run
from training.data.dataset import Dataset
from training.networks.gan import Generator
from training.runs import run_state
from training.runs.errors import TrainingError
from training.runs.run_state import RunState


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(
    name: str, digits: Dataset, tmp_path: Path
) -> None:
    whole = train(RUNS[name], digits, tmp_path / "whole", 6)
    train(RUNS[name], digits, tmp_path / "parts", 3)
    torch.manual_seed(99)  # another process would not have the same global generator either
    resumed = train(RUNS[name], digits, tmp_path / "parts", 6)

    assert_same(whole.state_dict(), resumed.state_dict())
    assert_same(state(tmp_path / "whole"), state(tmp_path / "parts"))
    vae = {"vae", "ema", "optimizer", "rng"}
    if name in ("vae-distorted", "vae-draws"):
        vae |= {"teller"}
    kinds = {key.partition(".")[0] for key in state(tmp_path / "whole")}
    gan = {"generator", "discriminator", "ema", "optimizer_g", "optimizer_d", "rng"}
    assert kinds == (gan if isinstance(whole, Generator) else vae)
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")
    assert len(lines(tmp_path / "whole")) == 6
    picture = "samples/epoch-001.png"
    assert (tmp_path / "whole" / picture).read_bytes() == (
        tmp_path / "parts" / picture
    ).read_bytes()


def test_a_resumed_log_shows_the_last_r1_until_the_next(digits: Dataset, tmp_path: Path) -> None:
    settings = gan_run("dense", r1_every=8)
    train(settings, digits, tmp_path / "whole", 6)
    train(settings, digits, tmp_path / "parts", 3)
    train(settings, digits, tmp_path / "parts", 6)
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")


def test_resuming_a_finished_run_changes_nothing(digits: Dataset, tmp_path: Path) -> None:
    first = train(RUNS["gan-dense"], digits, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = train(RUNS["gan-dense"], digits, tmp_path)
    assert_same(first.state_dict(), again.state_dict())
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_the_state_is_saved_every_so_many_steps_and_at_the_last(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    save = RunState.save

    def note(self: RunState, folder: Path) -> None:
        steps.append(self.step)
        save(self, folder)

    monkeypatch.setattr(RunState, "save", note)
    train(vae_run(save_every=5), digits, tmp_path)
    assert steps == [5, 10, 12]


def test_a_half_written_state_of_a_killed_run_is_ignored(digits: Dataset, tmp_path: Path) -> None:
    train(RUNS["vae-dense"], digits, tmp_path / "whole", 6)
    train(RUNS["vae-dense"], digits, tmp_path / "killed", 3)
    data = (tmp_path / "killed/state.safetensors").read_bytes()
    (tmp_path / "killed/.state.safetensors.tmp").write_bytes(data[: len(data) // 2])
    train(RUNS["vae-dense"], digits, tmp_path / "killed", 6)
    assert_same(state(tmp_path / "whole"), state(tmp_path / "killed"))
    assert not (tmp_path / "killed/.state.safetensors.tmp").exists()


@pytest.mark.parametrize("what", ["kill", "full disk", "failing rename"])
def test_a_state_that_cannot_be_written_leaves_the_old_one_whole(
    what: str, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(RUNS["vae-dense"], digits, tmp_path, 3)
    old = (tmp_path / "state.safetensors").read_bytes()

    def half(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(old[:100])
        raise KeyboardInterrupt if what == "kill" else OSError(28, "No space left on device")

    def refuse(source: str | Path, target: str | Path) -> None:
        if Path(target).name == "state.safetensors":
            raise OSError(13, "Permission denied")
        Path(source).rename(target)

    if what == "failing rename":
        monkeypatch.setattr(os, "replace", refuse)
    else:
        monkeypatch.setattr(run_state, "save_file", half)
    with pytest.raises(KeyboardInterrupt if what == "kill" else TrainingError) as caught:
        train(RUNS["vae-dense"], digits, tmp_path, 6)
    if what != "kill":
        assert str(tmp_path / "state.safetensors") in str(caught.value)
        assert "continue with --resume" in str(caught.value)
        assert not (tmp_path / ".state.safetensors.tmp").exists()
    assert (tmp_path / "state.safetensors").read_bytes() == old
    monkeypatch.undo()
    train(RUNS["vae-dense"], digits, tmp_path, 6)
    train(RUNS["vae-dense"], digits, tmp_path / "whole", 6)
    assert_same(state(tmp_path / "whole"), state(tmp_path))
    assert lines(tmp_path / "whole") == lines(tmp_path)
