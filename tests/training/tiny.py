"""Tiny networks and short runs that the tests of training share."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from training.__main__ import main
from training.config import AnyRun, GanRun, VaeRun
from training.data.dataset import Dataset
from training.loops import gan as train_gan
from training.loops import vae as train_vae
from training.networks.configs import GanConfig, VaeConfig
from training.networks.gan import DiscriminatorConfig, Generator
from training.networks.vae import VAE
from training.optim.hardware import Hardware

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
ALONE = Hardware()
MEASURES = {"frechet_pixels", "frechet_judge", "heldout_negative_elbo", "heldout_negative_bound"}


def gan_run(architecture: str = "compact", num_classes: int = 0, **settings: Any) -> GanRun:
    """Tiny, 12 steps on ``digits``, a log line each; spectral norm where the preset has it."""
    defaults: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 10,
        "log_every": 1,
        "ema_halflife_images": 20.0,
        "r1_gamma": 0.1,
        "r1_every": 2,
        "network": GanConfig(architecture, 3, num_classes, image_size=8, channels=(4, 4)),
        "discriminator": DiscriminatorConfig((4, 4, 4), spectral_norm=architecture == "dcgan"),
    }
    return GanRun(**(defaults | settings))


def vae_run(
    architecture: str = "conv",
    prior_layers: int = 0,
    prior_mixing: str = "reverse",
    **settings: Any,
) -> VaeRun:
    """Tiny, 12 steps on ``digits``, a log line each."""
    network = VaeConfig(
        architecture,
        latent_dim=3,
        image_size=8,
        channels=(4, 4),
        hidden=8,
        prior_layers=prior_layers,
        prior_hidden=4,
        prior_mixing=prior_mixing,
    )
    defaults: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 10,
        "log_every": 1,
        "ema_halflife_images": 20.0,
        "prior_steps": 5,
        "holdout_fraction": 0.0,
        "network": network,
    }
    return VaeRun(**(defaults | settings))


RUNS: dict[str, AnyRun] = {
    "gan-compact": gan_run(),
    "gan-dense": gan_run("dense"),  # with dropout: the global generator counts
    "gan-dcgan": gan_run("dcgan"),  # with spectral norm: its vectors count
    "cgan": gan_run(num_classes=10, loss="hinge"),
    "cgan-classifier": gan_run(
        num_classes=10, discriminator=DiscriminatorConfig((4, 4, 4), residual=True, classifier=True)
    ),
    "gan-modes": gan_run(
        network=GanConfig("compact", 12, image_size=8, channels=(4, 4), modes=10),
        discriminator=DiscriminatorConfig((4, 4, 4), classifier=True),
        label_modes=1,
    ),
    "vae-conv": vae_run(),
    "vae-dense": vae_run("dense"),
    "vae-flow": vae_run(prior_layers=2),
    "vae-joint": vae_run(
        prior_layers=2, prior_mixing="linear", prior_fit="joint", pixels="binarised"
    ),
    "vae-distorted": vae_run(distorted_fraction=0.8),
    # Several from the fifth step of 12 on, the weight of the KL at 1 from the eighth.
    "vae-draws": vae_run(
        prior_layers=2,
        prior_fit="joint",
        distorted_fraction=0.8,
        draws=3,
        draws_fraction=0.7,
        kl_warmup_epochs=2.0,
    ),
}


def train(
    settings: AnyRun,
    data: Dataset,
    folder: Path,
    max_steps: int | None = None,
    hardware: Hardware = ALONE,
) -> Generator | VAE:
    folder.mkdir(exist_ok=True)
    if isinstance(settings, VaeRun):
        return train_vae.train_vae(settings, data, folder, hardware, max_steps)
    return train_gan.train_gan(settings, data, folder, hardware, max_steps)


def lines(folder: Path) -> list[dict[str, Any]]:
    """Losses in losses.jsonl, without the clock's column."""
    found = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    for line in found:
        line.pop("images_per_s", None)
    return [line for line in found if not line.keys() & MEASURES]


def measured(folder: Path) -> list[dict[str, Any]]:
    """What the ends of epochs measured, in losses.jsonl."""
    found = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    return [line for line in found if line.keys() & MEASURES]


def state(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "state.safetensors")


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def small(root: Path) -> list[str]:
    """Options that make any preset quick on the made-up digits: four steps an epoch."""
    return [*("--data-root", str(root), "--batch-size", "10", "--epochs", "2", "--threads", "1")]


def failure(*argv: str) -> str:
    """The one line with which a command ends."""
    with pytest.raises(SystemExit) as caught:
        main([*argv])
    assert isinstance(caught.value.code, str)  # printed to stderr, exit status 1
    assert caught.value.code.startswith("error: ")
    assert "\n" not in caught.value.code
    return caught.value.code


def usage_error(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What argparse says of a command that it cannot read."""
    with pytest.raises(SystemExit) as caught:
        main([*argv])
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]
