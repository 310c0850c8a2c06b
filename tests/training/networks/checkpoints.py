"""Tiny checkpoints, and files that differ from them in one thing."""

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from training.networks import build
from training.networks.checkpoint import load, save
from training.networks.configs import Config, GanConfig, VaeConfig
from training.networks.files import CheckpointError
from training.networks.gan import Generator
from training.networks.header import Description, digest_of
from training.networks.vae import VAE

DENSE_GAN = GanConfig("dense", latent_dim=3, image_size=8, channels=(4, 4))
DENSE_VAE = VaeConfig("dense", latent_dim=3, image_size=8, channels=(4,))
CONFIGS: dict[str, tuple[str, Config]] = {
    "gan-compact": ("gan", GanConfig(latent_dim=3, image_size=8, channels=(4, 4))),
    "gan-dcgan": ("gan", GanConfig("dcgan", latent_dim=3, image_size=8, channels=(4, 4))),
    "gan-dense": ("gan", DENSE_GAN),
    "cgan": ("cgan", GanConfig(latent_dim=3, num_classes=2, image_size=8, channels=(4, 4))),
    "vae-conv": ("vae", VaeConfig(latent_dim=3, image_size=8, channels=(4, 4), hidden=4)),
    "vae-dense": ("vae", DENSE_VAE),
    "vae-flow": (
        "vae",
        VaeConfig(*("dense", 3), image_size=8, channels=(4, 4), prior_layers=2, prior_hidden=4),
    ),
    "vae-linear-flow": (
        "vae",
        VaeConfig("dense", 3, 1, 8, (4,), prior_layers=2, prior_hidden=4, prior_mixing="linear"),
    ),
}

CURVE = ((0.03125, 0.0), (0.5, 0.625), (1.0, 1.0))
CONFIGS["gan-toned"] = ("gan", dataclasses.replace(DENSE_GAN, tone=CURVE))
CONFIGS["vae-toned"] = ("vae", dataclasses.replace(DENSE_VAE, tone=CURVE))

Edit = Callable[[dict[str, Any]], object]


def make(name: str) -> tuple[Generator | VAE, Description]:
    """A tiny network, its batch-norm averages no longer at their start, and its description."""
    kind, config = CONFIGS[name]
    torch.manual_seed(0)
    network = build(kind, config)
    z = torch.randn(8, 3)
    network.train()
    network.generate(z, torch.arange(8) % 2 if network.num_classes else None)
    if isinstance(network, VAE):
        for parameter in network.prior.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    labels = ("nought", "one")[: network.num_classes]
    return network.eval(), Description(
        kind,
        config,
        labels,
        data={"name": "made-up", "licence": "été ☂"},
        training={"seed": 3, "run": {"loss": "hinge"}},
        metrics={"frechet_test": 1.25, "samples": 10},
    )


def whole(folder: Path) -> Path:
    """A checkpoint of an unconditional dense GAN, saved there."""
    path = folder / "made-up-gan-v1.safetensors"
    save(path, *make("gan-dense"))
    return path


def taken_apart(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensor bytes of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def put_together(header: object, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def redigested(header: dict[str, Any], body: bytes) -> bytes:
    """A file whose digest is right, whatever else is wrong with it."""
    header["__metadata__"]["digest"] = digest_of(header, body)
    return put_together(header, body)


def with_tensors(path: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    """Rewrite a checkpoint with other tensors and a right digest."""
    header, _ = taken_apart(path.read_bytes())
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    edit(tensors)
    path.write_bytes(redigested(*taken_apart(serialise(tensors, header["__metadata__"]))))


def with_metadata(path: Path, edit: Edit) -> None:
    """Rewrite a checkpoint with other metadata and a right digest."""
    header, body = taken_apart(path.read_bytes())
    edit(header["__metadata__"])
    path.write_bytes(redigested(header, body))


def with_network(path: Path, **fields: Any) -> None:
    """Rewrite the config in a checkpoint's header."""

    def edit(metadata: dict[str, Any]) -> None:
        metadata["network"] = json.dumps(json.loads(metadata["network"]) | fields)

    with_metadata(path, edit)


def refusal(path: Path) -> str:
    """Why a file is refused. The message is one line and begins with the file's name."""
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    reason = message.removeprefix(f"{path}: ")
    assert reason.strip()
    return reason
