"""Weights are found in what training scripts save, and read without running anything of it."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.training.importing import generators
from training import GeneratorError
from training.importing.weights import load_weights

State = dict[str, Tensor]


class Batched(generators.Flat):
    """With running averages and their counter."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.norm(super().forward(z))
        return images


@pytest.fixture
def trained() -> nn.Module:
    torch.manual_seed(1)
    return Batched().eval()


def named(state: State, before: str) -> State:
    return {f"{before}{name}": value for name, value in state.items()}


OTHER = {"model.0.weight": torch.zeros(3, 3), "x": torch.zeros(1)}  # a discriminator
WRAPPED: dict[str, Any] = {
    "plain": lambda s: s,
    "with the epoch": lambda s: s | {"epoch": 3},
    "data parallel": lambda s: named(s, "module."),
    "compiled": lambda s: named(s, "_orig_mod."),
    "both": lambda s: named(s, "_orig_mod.module."),
    "averaged": lambda s: named(s, "module.") | {"n_averaged": torch.tensor(5)},
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "among others": lambda s: {"netG": named(s, "module."), "netD": OTHER, "opt": {"state": {}}},
    "by other names": lambda s: {"gen_sd": s, "disc_sd": OTHER},
    "twice": lambda s: {"G": {k: v + 1 for k, v in s.items()}, "G_ema": s},
    "deep": lambda s: {"a": {"b": {"net": s}}},
    "Lightning": lambda s: {"state_dict": named(s, "generator.") | named(OTHER, "D."), "loops": {}},
    "settings": lambda s: {"G": s, "opt": argparse.Namespace(size=3), "loss": np.float64(2)},
    "figures": lambda s: {"G": s, "losses": np.zeros(3, np.float32)},
    "without counters": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
    "of float64": lambda s: {k: v.double() if v.is_floating_point() else v for k, v in s.items()},
}


@pytest.mark.parametrize("form", WRAPPED)
def test_weights_are_found_where_training_scripts_put_them(
    tmp_path: Path, trained: nn.Module, form: str
) -> None:
    torch.save(WRAPPED[form](trained.state_dict()), tmp_path / "x.pth")
    fresh = Batched().eval()
    load_weights(fresh, tmp_path / "x.pth")
    z = torch.randn(3, 5)
    assert torch.equal(fresh(z), trained(z))


@pytest.mark.parametrize("before", ["", "module."])
def test_safetensors_are_read(tmp_path: Path, trained: nn.Module, before: str) -> None:
    save_file(named(trained.state_dict(), before), tmp_path / "x.safetensors")
    fresh = Batched().eval()
    load_weights(fresh, tmp_path / "x.safetensors")
    assert all(map(torch.equal, fresh.state_dict().values(), trained.state_dict().values()))


def test_older_names_that_a_layer_knows_are_read(tmp_path: Path) -> None:
    new = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    torch.save(
        {"weight_g": torch.ones(3, 1), "weight_v": torch.ones(3, 2), "bias": torch.ones(3)},
        tmp_path / "x.pth",
    )
    load_weights(new, tmp_path / "x.pth")
    assert torch.equal(new.bias, torch.ones(3))


def test_of_several_that_fit_one_is_asked_for(tmp_path: Path, trained: nn.Module) -> None:
    state, path = trained.state_dict(), tmp_path / "x.pth"
    torch.save({"one": state, "two": state}, path)
    with pytest.raises(GeneratorError, match="holds weights of one, two: choose with --key"):
        load_weights(Batched(), path)
    load_weights(Batched(), path, "two")
    with pytest.raises(GeneratorError, match="has no 'three'; it has one, two"):
        load_weights(Batched(), path, "three")
    torch.save({"state_dict": named(state, "a.") | named(state, "b.")}, path)
    load_weights(Batched(), path, "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"more": torch.zeros(1)}, "1 do not belong to it, the first more"),
        (lambda s: {k: v for k, v in s.items() if k[-4:] != "bias"}, "3 are missing, the first mo"),
        (
            lambda s: s | {"model.0.weight": torch.zeros(9, 5)},
            r"model.0.weight has the shape \[9, 5\], not \[6, 5\]; was it built with other arg",
        ),
        (lambda s: {k: v.long() for k, v in s.items()}, "is torch.int64, torch.strided; wanted is"),
        (lambda s: {"opt": {"lr": 1}}, "holds no weights. Save them with torch.save"),
        (lambda s: [*s.values()], "holds no weights"),
        (lambda s: generators.Flat(), r"holds more than numbers \(tests.*Flat\), and reading that"),
    ],
)
def test_what_does_not_fit_is_told(
    tmp_path: Path, trained: nn.Module, change: Any, message: str
) -> None:
    torch.save(change(trained.state_dict()), tmp_path / "x.pth")
    with pytest.raises(GeneratorError, match=message) as caught:
        load_weights(Batched(), tmp_path / "x.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.pth", b"<html>404", "is no file of weights: it begins with b'<html>404'"),
        ("x.pth", b"", "it begins with b''"),
        ("x.pth", b"PK\x03\x04cut", "is no whole file of weights"),
        ("x.safetensors", b"x" * 100, "is no whole file of weights"),
    ],
)
def test_files_of_other_kinds_are_told(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GeneratorError, match=message):
        load_weights(Batched(), tmp_path / name)


def test_a_folder_and_a_missing_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match="is no file"):
        load_weights(Batched(), tmp_path)
    with pytest.raises(GeneratorError, match="does not exist"):
        load_weights(Batched(), tmp_path / "x.pth")
