"""Devices, number formats, memory layout and compiler: what they change, and what they must not."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import (
    ALONE,
    CPU,
    assert_same,
    gan_run,
    lines,
    state,
    train,
    vae_run,
)
from training.config import AnyRun
from training.data.dataset import Dataset
from training.loops import gan as train_gan
from training.networks.gan import Generator
from training.networks.vae import VAE
from training.optim import hardware
from training.optim.hardware import Hardware, HardwareError, Update, pick_hardware
from training.optim.losses import gradient_penalty_r1

MAKERS: dict[str, Callable[..., AnyRun]] = {
    "gan": functools.partial(gan_run, num_classes=10),
    "vae": vae_run,
    "vae-distorted": functools.partial(vae_run, distorted_fraction=0.8),
}
SETTINGS = {kind: make() for kind, make in MAKERS.items()}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", SETTINGS)
def test_half_precision_trains_near_full_precision(
    kind: str, precision: str, digits: Dataset, tmp_path: Path
) -> None:
    make = MAKERS[kind]
    train(make(), digits, tmp_path / "32", 3)
    train(make(precision=precision), digits, tmp_path / precision, 3)
    exact, rounded = lines(tmp_path / "32"), lines(tmp_path / precision)
    assert exact != rounded
    for one, other in zip(exact, rounded, strict=True):
        assert list(one.values()) == pytest.approx(list(other.values()), rel=0.02, abs=2e-3)
    assert all(value.dtype != torch.bfloat16 for value in state(tmp_path / precision).values())


def test_a_resumed_fp16_run_is_the_uninterrupted_one_with_its_loss_scale(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales: dict[str, list[float]] = {"whole": [], "parts": []}
    minimise = Update.minimise

    def train_noting(name: str, steps: int) -> None:
        def note(self: Update, loss: torch.Tensor) -> None:
            self.scaler.set_growth_interval(2)  # so that it grows within the test
            minimise(self, loss)
            scales[name].append(self.scaler.get_scale())

        monkeypatch.setattr(Update, "minimise", note)
        train(vae_run(precision="fp16"), digits, tmp_path / name, steps)

    train_noting("whole", 6)
    train_noting("parts", 3)
    train_noting("parts", 6)
    assert scales["whole"] == scales["parts"]
    assert scales["whole"][-1] > scales["whole"][0]
    assert_same(state(tmp_path / "whole"), state(tmp_path / "parts"))


def test_r1_is_in_full_precision(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = []

    def note(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        kinds.append((logits.dtype, images.dtype))
        return gradient_penalty_r1(logits, images)

    monkeypatch.setattr(train_gan, "gradient_penalty_r1", note)
    train(gan_run(precision="bf16"), digits, tmp_path, 3)
    assert kinds == [(torch.float32, torch.float32)] * 2


def test_networks_are_laid_out_channels_last_and_compute_the_same(digits: Dataset) -> None:
    torch.manual_seed(0)
    generator = Generator(gan_run().network).eval()
    z = torch.randn(5, 3)
    before = generator(z)
    placed = ALONE.place(generator)
    weight = placed.get_parameter("trunk.4.conv.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(placed(z), before, rtol=1e-5, atol=1e-6)


def test_moments_come_back_in_the_layout_of_their_weights(digits: Dataset, tmp_path: Path) -> None:
    """The fused step walks weights and moments as they lie in memory."""
    loaded = []

    class Noting(torch.optim.Adam):
        def load_state_dict(self, state_dict: Any) -> None:
            super().load_state_dict(state_dict)
            for parameter, entries in self.state.items():
                loaded.append((parameter.stride(), entries["exp_avg"].stride()))

    train(vae_run(), digits, tmp_path, 1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(torch.optim, "Adam", Noting)
        train(vae_run(), digits, tmp_path, 2)
    assert loaded
    assert all(weight == moment for weight, moment in loaded)
    assert any(weight[-3:] != () and len(weight) == 4 and weight[1] == 1 for weight, _ in loaded)


# The compiler.


# Tracing looks for a gradient at every tensor, and torch warns of those that keep none.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    ("kind", "networks"),
    [("gan", ["Generator", "Discriminator"]), ("vae-distorted", ["VAE", "FlowPrior"])],
)
def test_compiled_networks_train_alike_also_with_r1(
    kind: str,
    networks: list[str],
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the tracer alone, which makes no C++: it refuses what the whole compiler refuses."""
    calls = []
    original = torch.compile

    def trace(network: Any) -> Any:
        calls.append(type(getattr(network, "__self__", network)).__name__)  # of a method, its owner
        return original(network, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", trace)
    train(SETTINGS[kind], digits, tmp_path / "plain", 2)
    assert calls == []
    train(SETTINGS[kind], digits, tmp_path / "compiled", 2, Hardware(compile_networks=True))
    assert calls == networks
    plain, compiled = state(tmp_path / "plain"), state(tmp_path / "compiled")
    assert plain.keys() == compiled.keys()
    for key, value in plain.items():
        torch.testing.assert_close(compiled[key], value, rtol=1e-4, atol=1e-6, msg=key)


def test_compiling_without_a_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(HardwareError, match=r"needs a C\+\+ compiler.*apt-get install"):
        pick_hardware("cpu", compile_networks=True)
    assert pick_hardware("cpu") == Hardware(CPU)


# A GPU.


@pytest.fixture
def gpu() -> Hardware:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return hardware.pick_hardware("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", SETTINGS)
def test_a_gpu_trains_and_resumes(
    kind: str, precision: str, digits: Dataset, tmp_path: Path, gpu: Hardware
) -> None:
    make = MAKERS[kind]
    settings = make(precision=precision)
    train(settings, digits, tmp_path, 5, gpu)
    network = train(settings, digits, tmp_path, None, gpu)
    assert next(network.parameters()).is_cuda
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 13))
    assert isinstance(network, Generator | VAE)


@pytest.mark.gpu
def test_a_gpu_compiles(digits: Dataset, tmp_path: Path, gpu: Hardware) -> None:
    compiled = hardware.pick_hardware("cuda", compile_networks=True)
    train(SETTINGS["gan"], digits, tmp_path / "plain", 3, gpu)
    train(SETTINGS["gan"], digits, tmp_path / "compiled", 3, compiled)
    for one, other in zip(lines(tmp_path / "plain"), lines(tmp_path / "compiled"), strict=True):
        assert list(one.values()) == pytest.approx(list(other.values()), rel=1e-2, abs=1e-3)
