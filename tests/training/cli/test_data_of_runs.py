"""Runs and checkpoints find the images they were trained on, and refuse others."""

from pathlib import Path

import pytest
from safetensors import safe_open

from tests.shipped import STORE, VAE
from training.__main__ import main
from training.data.sources import load_data
from training.networks.checkpoint import load
from training.release.published import check_data, data_of
from training.runs.run_folder import read_config

RUN = Path("runs/gan-compact-001")
RESUME = ["gan", "--resume", str(RUN), "--max-steps", "2", "--threads", "1"]


@pytest.fixture
def run(made_up_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data root of a run of one step on made-up MNIST, in the working folder."""
    monkeypatch.chdir(tmp_path)
    options = ["--data-root", str(made_up_mnist), "--batch-size", "10", "--threads", "1"]
    main(["gan", *options, "--max-steps", "1"])
    return made_up_mnist


def steps_done() -> str:
    with safe_open(RUN / "state.safetensors", "pt") as file:
        step: str = file.metadata()["step"]
    return step


def test_images_that_changed_are_refused_by_resume_and_publish(run: Path) -> None:
    images = run / "MNIST/raw/train-images-idx3-ubyte"
    data = images.read_bytes()
    images.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for command in (RESUME, ["publish", str(RUN), "--threads", "1"]):
        with pytest.raises(SystemExit, match="training images of mnist have changed"):
            main(command)
    images.write_bytes(data)
    main(RESUME)
    assert steps_done() == "2"


def test_images_that_moved_are_written_down_anew(run: Path) -> None:
    elsewhere = run.rename(run.with_name("elsewhere"))
    main([*RESUME, "--data-root", str(elsewhere)])
    assert read_config(RUN)[3].root == str(elsewhere)


def test_the_shape_of_a_run_is_not_changed_by_resuming_it(run: Path) -> None:
    with pytest.raises(SystemExit, match="leave out image_size, data_licence, latent_dim"):
        main([*RESUME, "--image-size", "32", "--data-licence", "CC0", "--latent-dim", "3"])


def test_a_shipped_checkpoint_is_measured_on_the_set_of_its_name(
    made_up_mnist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = STORE / f"{VAE}.safetensors"
    _, description = load(path)
    train, test = load_data(data_of(path, description, None, made_up_mnist))
    assert (train.name, len(train), len(test)) == ("mnist", 40, 30)
    check_data(path, description, train)
    assert "the training images of mnist are not those that" in capsys.readouterr().err
