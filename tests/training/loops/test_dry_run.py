"""--dry-run of every preset: it goes the way of the run itself, labels and all."""

import re
from pathlib import Path

import pytest

from tests.training.tiny import ALONE, vae_run
from training.__main__ import main
from training.config import GanRun, VaeRun
from training.data.dataset import Dataset
from training.loops import dry_run
from training.optim.hardware import Hardware
from training.presets import PRESETS

EVERY = [(kind, preset) for kind, presets in PRESETS.items() for preset in presets]


@pytest.mark.parametrize(("kind", "preset"), EVERY)
def test_every_preset_of_every_kind_has_one(
    kind: str,
    preset: str,
    made_up_mnist: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(dry_run, "TIMED_STEPS", 1)
    options = ["--data-root", str(made_up_mnist), "--batch-size", "4", "--threads", "1"]
    settings = PRESETS[kind][preset]
    options += ["--r1-every", "1"] if isinstance(settings, GanRun) and settings.r1_gamma else []
    main([kind, "--preset", preset, "--precision", "bf16", *options, "--dry-run"])
    shown = " ".join(capsys.readouterr().out.split())
    assert list(here.iterdir()) == []
    assert shown.startswith(f"{kind}, preset {preset}; nothing is trained or written")
    assert "precision bf16 " in shown
    assert re.search(r"time [0-9.]+ ms a step", shown)
    names = ("encoder", "decoder") if kind == "vae" else ("generator", "discriminator")
    for name in names:
        assert re.search(rf"{name} [0-9,]+ parameters, [0-9.]+ million multiply-adds", shown)


def test_the_time_counts_draws_for_the_part_of_the_run_that_has_them(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def clocked(
        run: VaeRun, _data: Dataset, _folder: None, _hardware: Hardware, steps: int
    ) -> None:
        drawn.extend(run.draws_at(step, 1000) for step in range(steps))

    # A step takes as many seconds as it draws latents.
    monkeypatch.setattr(dry_run, "train_vae", clocked)
    monkeypatch.setattr("time.perf_counter", lambda: float(sum(drawn)))
    times = [
        dry_run.seconds_a_step(vae_run(draws=5, draws_fraction=fraction), digits, ALONE)
        for fraction in (0.25, 1.0)
    ]
    assert times == [2.0, 5.0]


@pytest.mark.parametrize("preset", PRESETS["gan"])
def test_a_gan_that_labels_teach_has_one_too(
    preset: str,
    made_up_mnist: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(dry_run, "TIMED_STEPS", 1)
    options = ["--data-root", str(made_up_mnist), "--batch-size", "4", "--threads", "1"]
    main(["gan", "--preset", preset, "--label-modes", "1", *options, "--dry-run"])
    assert " modes 10" in capsys.readouterr().out
    assert list(here.iterdir()) == []
