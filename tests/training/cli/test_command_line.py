"""python -m training: what it trains, what it refuses, and in which words."""

import dataclasses
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torch import Tensor

from tests.training.tiny import (
    CPU,
    ROOT,
    assert_same,
    failure,
    lines,
    small,
    state,
    usage_error,
)
from training.__main__ import main
from training.data import folder
from training.data.pictures import Image, PictureError
from training.data.sources import data_spec, load_data
from training.loops import gan as train_gan
from training.loops.dry_run import multiply_adds, networks_of
from training.optim import hardware
from training.optim.losses import generator_loss
from training.presets import PRESETS


def test_python_m_training_trains_on_mnist_files(made_up_mnist: Path, here: Path) -> None:
    options = shlex.join(small(made_up_mnist))
    done = subprocess.run(
        [sys.executable, *shlex.split(f"-m training cgan --max-steps 2 --log-every 1 {options}")],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    folder = here / "runs/cgan-compact-001"
    assert "run runs/cgan-compact-001: cgan, preset compact, 40 images, on " in done.stdout
    assert "publish it with: python -m training publish runs/cgan-compact-001" in done.stdout
    (results,) = (line for line in done.stdout.splitlines() if "losses: " in line)
    places = [here / place for place in re.findall(r": (\S+)", results)]
    assert places[:2] == [folder / "samples", folder / "losses.jsonl"]
    assert all(place.exists() for place in places)
    assert [line["step"] for line in lines(folder)] == [1, 2]
    config = json.loads((folder / "config.json").read_text())
    assert config["run"]["network"]["num_classes"] == 10
    assert config["run"]["batch_size"] == 10
    assert config["data"]["source"] == "mnist"
    assert config["data"]["root"] == str(made_up_mnist)
    assert (config["data"]["image_size"], config["data"]["image_channels"]) == (28, 1)
    train, _ = load_data(data_spec("mnist", made_up_mnist))
    assert config["data"]["digest"] == train.digest()
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.parametrize(
    ("options", "classes", "modes"),
    [
        (["--preset", "published"], 10, 10),
        (["--preset", "compact"], 10, 0),
        (["--preset", "compact", "--label-modes", "1"], 10, 10),
        (["--preset", "published", "--label-modes", "0"], 10, 0),
        (["--preset", "published"], 1, 0),  # a flat folder has no labels
    ],
)
def test_labels_teach_a_gan_where_there_are_some_and_it_is_asked_for(
    options: list[str], classes: int, modes: int, made_up_mnist: Path, here: Path
) -> None:
    data: list[str] = []
    if classes == 1:
        (here / "flat").mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (24, 28, 28), np.uint8)
        for number, image in enumerate(noise):
            Picture.fromarray(image).save(here / "flat" / f"{number}.png")
        data = ["--data", "flat"]
    main(["gan", *small(made_up_mnist), *options, *data, "--max-steps", "1"])
    (folder,) = (here / "runs").iterdir()
    network = json.loads((folder / "config.json").read_text())["run"]["network"]
    assert (network["num_classes"], network["modes"]) == (0, modes)


@pytest.mark.parametrize("kind", PRESETS)
def test_resume_continues_with_the_runs_own_settings(
    kind: str, made_up_mnist: Path, here: Path
) -> None:
    options = [*small(made_up_mnist), "--log-every", "1", "--seed", "3"]
    main([kind, *options, "--max-steps", "4"])
    main([kind, *options, "--max-steps", "2"])
    main([kind, "--resume", f"runs/{kind}-compact-002", "--max-steps", "4", "--threads", "1"])
    whole, parts = here / f"runs/{kind}-compact-001", here / f"runs/{kind}-compact-002"
    assert_same(state(whole), state(parts))
    assert len(list((here / "runs").iterdir())) == 2


def test_ctrl_c_says_how_to_continue_and_that_works(
    made_up_mnist: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [*small(made_up_mnist), "--log-every", "1"]
    main(["gan", *options, "--max-steps", "5"])
    calls = []

    def press(kind: str, logits: Tensor) -> Tensor:
        calls.append(kind)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return generator_loss(kind, logits)

    monkeypatch.setattr(train_gan, "generator_loss", press)
    before = signal.getsignal(signal.SIGINT)  # ignored, where a shell runs this in the background
    with pytest.raises(SystemExit) as caught:
        main(["gan", *options])
    assert caught.value.code == 130
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("stopped; step 4 is saved. Continue with: ")
    assert signal.getsignal(signal.SIGINT) is before
    command = shlex.split(message.partition("Continue with: ")[2])
    assert command[:3] == ["python", "-m", "training"]
    main([*command[3:], "--max-steps", "5", "--threads", "1"])
    one, other = here / "runs/gan-compact-001", here / "runs/gan-compact-002"
    assert_same(state(one), state(other))


def test_a_second_ctrl_c_stops_at_once(
    made_up_mnist: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def press(kind: str, logits: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return generator_loss(kind, logits)

    monkeypatch.setattr(train_gan, "generator_loss", press)
    with pytest.raises(SystemExit) as caught:
        main(["gan", *small(made_up_mnist), "--save-every", "3"])
    assert caught.value.code == 130
    assert "stopped; at most 3 steps are lost." in capsys.readouterr().err
    assert not (here / "runs/gan-compact-001/state.safetensors").exists()


def test_ctrl_c_while_a_folder_is_read_is_one_line_and_leaves_nothing(
    here: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photos = tmp_path_factory.mktemp("photos")
    for number in range(200):
        (photos / f"{number}.png").write_bytes(b"whatever")
    pressed = threading.Event()

    def press(data: bytes, size: int, channels: int) -> Image:  # in a reader's thread
        if not pressed.is_set():
            pressed.set()
            os.kill(os.getpid(), signal.SIGINT)
        raise PictureError("no picture")

    monkeypatch.setattr(folder, "read_picture", press)
    with pytest.raises(SystemExit) as caught:
        main(["gan", "--data", str(photos), "--threads", "1"])
    assert caught.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == "stopped"
    assert list(here.iterdir()) == []
    assert caught.value.__suppress_context__  # no traceback


@pytest.mark.parametrize("kind", PRESETS)
def test_a_dry_run_says_what_the_run_would_be_and_writes_nothing(
    kind: str, made_up_mnist: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([kind, *small(made_up_mnist), "--seed", "77", "--dry-run"])
    shown = " ".join(capsys.readouterr().out.split())
    assert list(here.iterdir()) == []
    assert "mnist: 40 images of 1 x 28 x 28, 10 classes" in shown
    assert f"writes runs/{kind}-compact-001/" in shown
    assert re.search(r"[0-9.]+ ms a step, [0-9,]+ images/s: about [0-9.]+ minutes", shown)
    assert " seed 77 " in shown
    steps = "2 epochs of 3: 6 steps" if kind == "vae" else "2 epochs of 4: 8 steps"
    assert f"steps {steps} of 10 images" in shown
    for name, (parameters, _) in networks_of(PRESETS[kind]["compact"]).items():
        if kind != "cgan":  # whose classes the data decides
            assert f"{name} {parameters:,} parameters," in shown


def test_multiply_adds_are_those_of_the_layers() -> None:
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(5 * 16, 7)
    )
    assert multiply_adds(layers, torch.zeros(1, 3, 4, 4)) == 16 * 5 * 3 * 9 + 80 * 7


@pytest.mark.parametrize(
    ("kind", "preset"), [(kind, preset) for kind in PRESETS for preset in PRESETS[kind]]
)
def test_help_shows_every_setting_with_the_presets_default(
    kind: str, preset: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([kind, "--preset", preset, "--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    settings = PRESETS[kind][preset]
    names = [f.name for f in dataclasses.fields(settings)]
    assert len(names) > 8
    for field in dataclasses.fields(settings):
        if field.name not in ("network", "discriminator"):
            option = f"--{field.name.replace('_', '-')} {field.name.upper()}"
            default = getattr(settings, field.name)
            assert f"{option} {field.metadata['help']} (default: {default})" in shown
    for option in (
        *("--preset", "--data", "--data-root", "--image-size", "--image-channels"),
        *("--data-licence", "--device", "--threads", "--runs"),
    ):
        # The option's own lines, up to the next option.
        about = shown.partition("options:")[2].partition(f"{option} ")[2].partition(" --")[0]
        assert "(default: " in about, option


def test_help_without_a_command_names_them_all(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for command in (*PRESETS, "publish", "evaluate", "export", "judge"):
        assert f"\n    {command} " in shown


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("gan --epochs 0", "epochs is 0; it must be at least 1"),
        ("gan --batch-size 1", "batch_size is 1; batch norm needs at least 2"),
        ("vae --batch-size 0", "batch_size is 0; it must be at least 1"),
        ("vae --log-every 0", "log_every is 0"),
        ("vae --save-every -5", "save_every is -5"),
        ("cgan --decay-fraction 1.5", "decay_fraction is 1.5; allowed: 0 to 1"),
        ("cgan --decay-fraction nan", "decay_fraction is nan; allowed: 0 to 1"),
        ("cgan --ema-halflife-images -1", "ema_halflife_images is -1.0; allowed: at least 0"),
        ("cgan --loss wgan", "unknown loss 'wgan'; available: nonsaturating, hinge"),
        ("gan --precision 8", "unknown precision '8'; available: 32, bf16, fp16"),
        ("vae --holdout-fraction 1", "holdout_fraction is 1.0; allowed: at least 0 and below 1"),
        ("gan --r1-every 0", "r1_every is 0; it must be at least 1"),
        ("gan --generator-lr -1", "generator_lr is -1.0; allowed: at least 0"),
        ("cgan --discriminator-lr inf", "discriminator_lr is inf; allowed: at least 0"),
        ("gan --r1-gamma nan", "r1_gamma is nan; allowed: at least 0"),
        ("gan --adam-beta1 1.5", "adam_beta1 is 1.5; allowed: at least 0 and below 1"),
        ("cgan --adam-beta2 1", "adam_beta2 is 1.0; allowed: at least 0 and below 1"),
        ("gan --seed -1", "seed is -1; allowed: 0 to"),
        (f"vae --seed {2**64}", f"seed is {2**64}; allowed: 0 to"),
        ("vae --lr -0.1", "lr is -0.1; allowed: at least 0"),
        ("vae --gradient-limit -1", "gradient_limit is -1.0; allowed: at least 0"),
        ("vae --kl-warmup-epochs -1", "kl_warmup_epochs is -1.0; allowed: at least 0"),
        ("vae --beta nan", "beta is nan; allowed: at least 0"),
        ("vae --draws 0", "draws is 0; it must be at least 1"),
        ("vae --draws-fraction 2", "draws_fraction is 2.0; allowed: above 0 and up to 1"),
        ("vae --draws-fraction 0", "draws_fraction is 0.0; allowed: above 0 and up to 1"),
        ("vae --preset published --draws 2", "draws is 2 and beta 0.25; only with beta 1"),
        ("vae --preset likelihood --beta 2", "draws is 4 and beta 2.0; only with beta 1"),
        ("vae --draws 4", "draws is 4, and their weights need the prior, which prior_fit after"),
        ("vae --prior-steps 0", "prior_steps is 0; allowed: at least 1"),
        ("vae --pixels gray", "unknown pixels 'gray'; available: grey, binarised"),
        ("vae --distorted-fraction 1.5", "distorted_fraction is 1.5; allowed: 0 to 1"),
        (
            "vae --distorted-fraction .5 --decay-fraction 0",
            "decay_fraction is 0, so distorted_fraction",
        ),
        (
            "vae --distorted-fraction .5 --distorted-last .6",
            "distorted_last is 0.6; allowed: 0 to distorted_fraction, 0.5",
        ),
        ("vae --prior-fit late", "unknown prior_fit 'late'; available: after, joint"),
        ("vae --preset dense --prior-fit joint", "prior_fit is joint, but the network has no"),
        (
            "cgan --classifier-weight .5",
            "cgan with preset compact: --classifier-weight has no effect: its discriminator has no "
            "class head; use --preset published or signs. Leave out what has no effect",
        ),
        (
            "gan --preset published --label-modes 0 --classifier-weight 1",
            "gan with preset published: --classifier-weight has no effect: it trains without",
        ),
        (
            "gan --preset dense --r1-every 4",
            "gan with preset dense: --r1-every has no effect: r1_gamma is 0; set --r1-gamma too",
        ),
        (
            "cgan --label-modes 1",
            "cgan with preset compact: --label-modes has no effect: a cgan always trains with",
        ),
        (
            "vae --draws-fraction .5",
            "vae with preset compact: --draws-fraction has no effect: draws is 1; set --draws too",
        ),
        (
            "vae --preset dense --prior-steps 5",
            "vae with preset dense: --prior-steps has no effect: its prior is N(0, I)",
        ),
        ("gan --data nowhere", "no data 'nowhere': there is no such folder"),
        ("gan --data mnits", "no data 'mnits': there is no such folder, and the sets"),
        ("gan --data digits --data-licence 'a\nb'", r"the licence 'a\nb' is not a line of at most"),
        ("gan --resume nowhere", "nowhere is not a run folder: it has no config.json"),
        ("evaluate", "name checkpoints of the store, or use --all, or --damage alone"),
        ("evaluate x --damage", "name checkpoints of the store, or use --all, or --damage"),
        ("evaluate x --quick --nll-images 9", "--quick leaves out the likelihood: drop it, or"),
        ("publish nowhere", "nowhere is not a run folder: it has no config.json"),
        ("evaluate nowhere-v1", "models_store holds no checkpoints (*.safetensors): publish a run"),
    ],
)
def test_bad_options_are_one_line_with_the_value_and_leave_nothing(
    argv: str, message: str, here: Path
) -> None:
    assert failure(*shlex.split(argv)).startswith(f"error: {message}")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "the following arguments are required: command"),
        ("diffusion", "invalid choice: 'diffusion'"),
        ("gan --preset huge", "invalid choice: 'huge' (choose from"),
        ("gan --image-size 30", "argument --image-size: invalid choice: 30 (choose from 28"),
        ("gan --image-channels 2", "argument --image-channels: invalid choice: '2'"),
        ("publish x --image-size 32", "unrecognized arguments: --image-size 32"),
        ("gan --epochs many", "argument --epochs: invalid int value: 'many'"),
        ("gan --max-steps -1", "argument --max-steps: '-1' is not a whole number of at least 1"),
        ("vae --max-steps 0", "argument --max-steps: '0' is not"),
        ("evaluate x --threads 0", "argument --threads: '0' is not a whole number of at least 1"),
        ("gan --threads -1", "argument --threads: '-1' is not"),
        ("vae --r1-gamma 1", "unrecognized arguments: --r1-gamma 1"),
        ("gan --devices 0", "argument --devices: '0' is not"),
        ("gan --device tpu", "invalid choice: 'tpu'"),
        ("publish", "the following arguments are required: run"),
    ],
)
def test_unreadable_commands_are_usage_errors(
    argv: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in usage_error(capsys, *shlex.split(argv))
    assert list(here.iterdir()) == []


def test_asking_for_a_gpu_where_there_is_none_is_one_line(
    made_up_mnist: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "use --device cpu or auto" in failure("gan", *small(made_up_mnist), "--device", "cuda")
    assert hardware.pick_device("auto") == CPU


def test_resuming_as_another_kind_or_with_other_settings_is_refused(
    made_up_mnist: Path, here: Path
) -> None:
    main(["gan", *small(made_up_mnist), "--max-steps", "1"])
    folder = "runs/gan-compact-001"
    assert f"{folder} is a gan run: python -m training gan" in failure("vae", "--resume", folder)
    message = failure("gan", "--resume", folder, "--seed", "3", "--epochs", "9")
    assert "leave out seed, epochs" in message or "leave out epochs, seed" in message


def test_a_damaged_state_is_one_line(made_up_mnist: Path, here: Path) -> None:
    main(["gan", *small(made_up_mnist), "--max-steps", "1"])
    path = here / "runs/gan-compact-001/state.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "state.safetensors" in failure("gan", "--resume", "runs/gan-compact-001")


def test_resuming_with_another_preset_is_refused(made_up_mnist: Path, here: Path) -> None:
    main(["gan", *small(made_up_mnist), "--max-steps", "1"])
    folder = "runs/gan-compact-001"
    resume = ["gan", "--resume", folder, "--max-steps", "1", "--threads", "1"]
    assert "preset" in failure(*resume, "--preset", "dense")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["vae", "--holdout-fraction", "0.999999"],
            "which keeps out all 40 images",
        ),
        (["gan", "--epochs", "99999999999999999999"], "allowed: at most 1000000"),
        (["gan", "--devices", "7", "--dry-run"], "does not split over 7 processes"),
        (["gan", "--data", ""], "--data is empty: name a folder, or one of mnist"),
        (["evaluate", "--damage", "--data", ""], "--data is empty"),
    ],
)
def test_what_cannot_be_is_said_before_a_folder_is_made(
    made_up_mnist: Path, here: Path, argv: list[str], message: str
) -> None:
    assert message in failure(*argv, "--data-root", str(made_up_mnist), "--threads", "1")
    assert not Path("runs").exists()


def test_more_threads_than_there_can_be_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["gan", "--threads", "100000"])
    assert "argument --threads: 100000 is over 1024" in capsys.readouterr().err


def test_classes_are_told_with_their_images(
    made_up_mnist: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["gan", *small(made_up_mnist), "--preset", "dense", "--max-steps", "1"])
    assert "\nclasses: 0 (4), 1 (4), 2 (4)" in capsys.readouterr().out
    main(["gan", *small(made_up_mnist), "--preset", "dense", "--dry-run"])
    assert "\nclasses       0 (4), 1 (4), 2 (4)" in capsys.readouterr().out


def test_training_that_diverges_is_one_line(made_up_mnist: Path, here: Path) -> None:
    options = [*small(made_up_mnist), "--preset", "dense", "--lr", "1e20", "--log-every", "1"]
    assert "training diverged. Lower the learning rates" in failure("vae", *options)


def test_what_does_not_fit_into_memory_is_told_with_what_to_take_less_of(here: Path) -> None:
    message = failure("vae", "--data", "digits", "--preset", "dense", "--draws", str(10**13))
    assert re.search(r"allocat|memory", message)
    assert message.endswith("Take a smaller --batch-size or fewer --draws of a vae")
