"""What is no number stops a run before it is saved; gradients have a limit."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.tiny import ALONE, assert_same, gan_run, lines, state, train, vae_run
from training.data.dataset import Dataset
from training.loops import gan as train_gan
from training.optim.hardware import FIRST_SCALE, Update
from training.optim.losses import generator_loss
from training.runs.errors import STATE, TrainingError
from training.runs.run_state import RunState


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_with_advice_and_keeps_the_last_good_state(
    value: float, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def diverge(kind: str, logits: Tensor) -> Tensor:
        calls.append(kind)
        return generator_loss(kind, logits) * (value if len(calls) == 4 else 1)

    monkeypatch.setattr(train_gan, "generator_loss", diverge)
    with pytest.raises(TrainingError, match=f"loss_g is {value} at step 4.*Lower.*--r1-gamma"):
        train(gan_run("dense", save_every=2), digits, tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    assert all(tensor.isfinite().all() for tensor in state(tmp_path).values())
    monkeypatch.undo()
    train(gan_run("dense", save_every=2), digits, tmp_path)  # from step 2
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 13))


def test_an_absurd_learning_rate_stops_with_advice(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"at step \d+: not finite.*Lower the learning"):
        train(vae_run("dense", lr=1e20), digits, tmp_path)


def test_weights_that_are_not_finite_are_never_saved(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="diverged"):
        train(vae_run("dense", lr=1e20, log_every=100), digits, tmp_path, 6)


def test_moments_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    """An overflowed second moment leaves its weight finite, and for ever where it is."""
    layer = torch.nn.Linear(2, 1)
    update = Update(torch.optim.Adam(layer.parameters()), ALONE, "32")
    update.minimise(layer(torch.ones(1, 2)).sum())
    state = RunState({"layer": layer}, {"optimizer": update}, torch.Generator())
    state.save(tmp_path / STATE)
    before = (tmp_path / "state.safetensors").read_bytes()
    update.optimizer.state[layer.weight]["exp_avg_sq"].fill_(float("inf"))
    with pytest.raises(TrainingError, match="moments of optimizer at step 0: not finite"):
        state.save(tmp_path / STATE)
    assert (tmp_path / "state.safetensors").read_bytes() == before


@pytest.mark.parametrize("precision", ["32", "fp16"])  # fp16's gradients are scaled up meanwhile
@pytest.mark.parametrize("fused", [True, False])  # fused optimisers scale them down themselves
@pytest.mark.parametrize(("limit", "length"), [(0.0, 5.0), (10.0, 5.0), (2.0, 2.0)])
def test_a_longer_gradient_is_shortened_to_the_limit(
    precision: str, fused: bool, limit: float, length: float
) -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    sgd = torch.optim.SGD([weight], lr=1.0, fused=fused)
    update = Update(sgd, ALONE, precision, limit)
    update.minimise((weight * torch.tensor([3.0, -4.0])).sum())
    assert torch.allclose(weight.detach(), torch.tensor([-0.6, 0.8]) * length, rtol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_an_overflow_under_fp16_is_no_step_with_a_limit_either(fused: bool) -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    update = Update(torch.optim.Adam([weight], lr=1.0, fused=fused), ALONE, "fp16", 2.0)
    update.minimise((weight * torch.tensor([3.0, float("inf")])).sum())
    assert torch.equal(weight.detach(), torch.zeros(2))
    assert update.scaler.get_scale() == FIRST_SCALE / 2


def test_a_limit_that_is_not_met_changes_nothing(digits: Dataset, tmp_path: Path) -> None:
    train(vae_run(), digits, tmp_path / "none", 6)
    train(vae_run(gradient_limit=1e6), digits, tmp_path / "far", 6)
    train(vae_run(gradient_limit=1.0), digits, tmp_path / "near", 6)
    none, far, near = (state(tmp_path / name) for name in ("none", "far", "near"))
    assert_same(none, far)
    assert not torch.equal(none["vae.encoder.head.weight"], near["vae.encoder.head.weight"])
