"""What a run shows while it goes on: log, progress, pictures, curves, TensorBoard; a full disk."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.training.tiny import ALONE, RUNS, gan_run, lines, measured, train, vae_run
from training.data.dataset import Dataset
from training.loops.gan import train_gan
from training.runs import progress, reporting
from training.runs.curves import save_curves
from training.runs.errors import TrainingError
from training.runs.reporting import LossLog, RunReporter, save_grid

FULL = Path("/dev/full")  # every write to it fails as on a full disk
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


def test_a_resumed_log_drops_what_came_after_the_state_and_a_line_cut_off(tmp_path: Path) -> None:
    log = LossLog(tmp_path, 0)
    for step in range(1, 6):
        log.write({"step": step, "loss": float(step)})
    with log.path.open("a") as file:
        file.write('{"step": 6, "lo')
    LossLog(tmp_path, 3).write({"step": 4, "loss": 9.0})
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [
        *((1, 1.0), (2, 2.0), (3, 3.0), (4, 9.0)),
    ]


def test_a_log_counts_images_a_second_but_for_the_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunReporter(tmp_path, 0, 10, 100, 5) as reporter:
        clock = iter([5.0, 7.0])
        monkeypatch.setattr("training.runs.reporting.time.monotonic", lambda: next(clock))
        monkeypatch.setattr(reporter, "bar", None)
        reporter.advance()
        reporter.losses({})
        reporter.advance()
        reporter.advance()
        reporter.losses({})
    found = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert [line["images_per_s"] for line in found] == [None, 100.0]
    assert [line["images"] for line in found] == [100, 300]
    assert [line["epoch"] for line in found] == [0.2, 0.6]


def test_a_log_file_gets_whole_lines_with_rate_eta_and_losses(
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    train(gan_run("dense"), digits, tmp_path)
    first, *shown = capsys.readouterr().err.splitlines()
    assert "loss" not in first  # there are none yet
    assert len(shown) == 11  # one a step
    assert re.fullmatch(
        r"step 2/12 \(17%\), 20 images, \d+ images/s, ETA \d+:\d\d, "
        r"loss_d \d\.\d{3} loss_g \d\.\d{3} r1 \d\.\d{3}",
        shown[0],
    )


def test_a_log_file_is_not_flooded(
    digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(gan_run("dense"), digits, tmp_path)
    assert len(capsys.readouterr().err.splitlines()) == 1  # the next in half a minute


def test_a_terminal_gets_one_bar_with_rate_eta_and_losses(
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("TQDM_DISABLE")
    train(gan_run("dense"), digits, tmp_path)
    bar = capsys.readouterr().err.split("\r")[-1]
    assert re.search(r"100%.* 120/120 \[00:\d\d<00:00, .* images/s, loss_d \d\.\d+ loss_g ", bar)


def test_a_dry_run_writes_and_shows_nothing(
    digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_gan(gan_run("dense"), digits, None, ALONE)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


def test_each_end_of_an_epoch_is_measured(digits: Dataset, tmp_path: Path) -> None:
    train(gan_run("dense"), digits, tmp_path)
    assert [line["epoch"] for line in measured(tmp_path)] == [1.0, 2.0, 3.0]
    assert all(line["frechet_pixels"] > 0 for line in measured(tmp_path))


@pytest.mark.usefixtures("curves")
@pytest.mark.parametrize(
    ("name", "height"), [("gan-dense", 3 * 260), ("vae-dense", 260), ("other", 2 * 260)]
)
def test_curves_have_a_panel_for_each_group_of_figures(
    name: str, height: int, digits: Dataset, tmp_path: Path
) -> None:
    if name == "other":
        values = [{"step": s, "epoch": s, "images": s, "a": s, "kl": s} for s in range(3)]
        save_curves(tmp_path / "curves.png", values)
    else:
        train(RUNS[name], digits, tmp_path)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (800, height)
        colours = picture.convert("RGB").getcolors(picture.width * picture.height)
    assert colours is not None
    assert len(colours) > 20  # lines of several colours, smoothed


def test_an_empty_log_has_no_curves(tmp_path: Path) -> None:
    save_curves(tmp_path / "curves.png", [])
    assert list(tmp_path.iterdir()) == []


# TensorBoard.


def test_tensorboard_gets_losses_measures_and_pictures(digits: Dataset, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train_gan(gan_run("dense"), digits, tmp_path, ALONE, 5, tensorboard=True)
    train_gan(gan_run("dense"), digits, tmp_path, ALONE, None, tensorboard=True)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    by_step = [(event.step, event.value) for event in events.Scalars("loss_d")]
    expected = [(line["step"], line["loss_d"]) for line in lines(tmp_path)]
    assert [step for step, _ in by_step] == [step for step, _ in expected]
    assert [v for _, v in by_step] == pytest.approx([v for _, v in expected], rel=1e-5)
    assert [event.step for event in events.Scalars("frechet_pixels")] == [4, 8, 12]
    assert [event.step for event in events.Images("samples")] == [1, 4, 8, 12]


def test_tensorboard_without_its_package_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match="pip install tensorboard"):
        reporting.summary_writer_class()


# A full disk.


@needs_full
def test_a_full_disk_is_said_of_the_log(tmp_path: Path) -> None:
    log = LossLog(tmp_path, 0)
    log.path.unlink()
    log.path.symlink_to(FULL)
    with pytest.raises(TrainingError, match=f"could not write {log.path}.*No space.*--runs"):
        log.write({"step": 1})


@needs_full
def test_a_full_disk_is_said_of_a_picture(digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "samples/epoch-001.png"
    path.parent.mkdir()
    path.symlink_to(FULL)
    with pytest.raises(TrainingError, match=f"could not write {path}.*No space left.*--runs"):
        train(gan_run("dense"), digits, tmp_path)


@needs_full
def test_a_full_disk_is_said_of_the_curves(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    path.symlink_to(FULL)
    with pytest.raises(TrainingError, match=f"could not write {path}.*No space left"):
        save_curves(path, [{"step": 1, "images": 1, "kl": 2.0}])


def test_a_run_goes_on_to_the_same_end_after_a_full_disk(digits: Dataset, tmp_path: Path) -> None:
    settings = vae_run("dense", save_every=2)
    train(settings, digits, tmp_path / "whole")
    train(settings, digits, tmp_path / "full", 5)
    with (tmp_path / "full/losses.jsonl").open("a") as file:
        file.write('{"step": 6, "negative')  # as far as the disk went
    train(settings, digits, tmp_path / "full")
    assert lines(tmp_path / "whole") == lines(tmp_path / "full")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "samples").write_text("not a folder")
    with pytest.raises(TrainingError, match="could not write"):
        save_grid(tmp_path / "samples" / "one.png", torch.zeros(1, 1, 8, 8), 1)
