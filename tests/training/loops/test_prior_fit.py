"""The VAE's prior: fitted once, at the end, to where the encoder puts images."""

import dataclasses
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.training.tiny import RUNS, assert_same, state, train, vae_run
from training.data.dataset import Dataset, to_pixels
from training.loops import prior_fit
from training.loops.heldout import HeldOutBound
from training.loops.prior_fit import fit_prior
from training.networks.configs import VaeConfig
from training.networks.prior import FlowPrior
from training.networks.vae import VAE
from training.optim.hardware import Update
from training.runs.interrupts import Stopped
from training.runs.reporting import RunReporter
from training.runs.run_state import read_tensors


def test_a_finished_run_ends_with_the_same_prior_when_it_was_interrupted(
    digits: Dataset, tmp_path: Path
) -> None:
    whole = train(RUNS["vae-flow"], digits, tmp_path / "whole")
    train(RUNS["vae-flow"], digits, tmp_path / "parts", 5)
    parts = train(RUNS["vae-flow"], digits, tmp_path / "parts")
    assert_same(whole.state_dict(), parts.state_dict())
    assert whole.state_dict()["prior.couplings.0.out.weight"].any()  # it was fitted
    assert_same(state(tmp_path / "whole"), state(tmp_path / "parts"))
    again = train(RUNS["vae-flow"], digits, tmp_path / "parts")
    assert_same(whole.state_dict(), again.state_dict())


def test_the_prior_is_fitted_only_at_the_end(digits: Dataset, tmp_path: Path) -> None:
    part = train(RUNS["vae-flow"], digits, tmp_path, 11)
    assert not part.state_dict()["prior.couplings.0.out.weight"].any()
    z = torch.randn(4, 3)
    assert isinstance(part, VAE)
    assert sorted(part.prior(z)[0].tolist()) == sorted(z[0].tolist())  # still the identity
    assert not (tmp_path / "samples/prior.png").exists()
    train(RUNS["vae-flow"], digits, tmp_path)
    assert (tmp_path / "samples/prior.png").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_fit_that_was_stopped_goes_on_and_ends_the_same(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Stopped twice in the first fit and once in the second, of the epoch that measured best: the
    first, since all measure the same."""
    monkeypatch.setattr(HeldOutBound, "__call__", lambda *_: 1.0)
    monkeypatch.setattr(prior_fit, "CHECK_EVERY", 1)
    run = vae_run(prior_layers=2, prior_steps=12, save_every=4, holdout_fraction=0.2)
    whole = train(run, digits, tmp_path / "whole")
    train(run, digits, tmp_path / "parts", 8)
    steps = -1  # its last one comes first
    minimise = Update.minimise

    def stopping(self: Any, loss: Tensor) -> None:
        nonlocal steps
        minimise(self, loss)
        if (steps := steps + 1) in (3, 9, 17):
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Update, "minimise", stopping)
    for said in ("step 3 of 12", "step 9 of 12", "step 5 of 12"):
        with pytest.raises(Stopped, match=f"{said} of the prior's fit"):
            train(run, digits, tmp_path / "parts")
    parts = train(run, digits, tmp_path / "parts")
    assert steps == 24
    assert_same(whole.state_dict(), parts.state_dict())
    for name in ("state", "best"):
        one, other = (
            load_file(tmp_path / part / f"{name}.safetensors") for part in ("whole", "parts")
        )
        assert_same(one, other)
    assert not list((tmp_path / "parts").glob("*prior.safetensors"))


def test_a_fit_that_was_killed_loses_an_interval_at_most(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = vae_run(prior_layers=2, prior_steps=12, save_every=4)
    whole = train(run, digits, tmp_path / "whole")
    train(run, digits, tmp_path / "parts", 11)
    rate = Update.learning_rate
    taken: list[float] = []

    def killed(self: Any, value: float) -> None:
        taken.append(value)
        if len(taken) == 7:
            raise RuntimeError("killed")
        rate(self, value)

    monkeypatch.setattr(Update, "learning_rate", killed)
    taken.append(0)  # of the run's last step
    with pytest.raises(RuntimeError, match="killed"):
        train(run, digits, tmp_path / "parts")
    parts = train(run, digits, tmp_path / "parts")
    assert_same(whole.state_dict(), parts.state_dict())
    assert len(taken) < 1 + 12 + 1 + 4


def fit_states(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*prior.safetensors"))


@pytest.mark.parametrize("damage", ["cut off", "another encoder's", "an earlier version's"])
def test_a_state_of_a_fit_that_is_none_of_this_encoder_costs_the_fit_alone(
    digits: Dataset,
    tmp_path: Path,
    damage: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = vae_run(prior_layers=2, prior_steps=12, save_every=4)
    whole = train(run, digits, tmp_path / "whole")
    parts, path = tmp_path / "parts", tmp_path / "parts/prior.safetensors"
    train(run, digits, parts, 11)
    other = train(dataclasses.replace(run, seed=5), digits, tmp_path / "other", 12)
    assert isinstance(other, VAE)
    if damage == "an earlier version's":  # without what it keeps
        monkeypatch.setattr(prior_fit, "LOWEST", "other")
        other = train(run, digits, tmp_path / "same", 12)
        assert isinstance(other, VAE)
    fit_prior(run, other, digits, None, path)
    monkeypatch.undo()
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:1000])
    capsys.readouterr()
    assert_same(whole.state_dict(), train(run, digits, parts).state_dict())
    assert f"cannot resume from {path}" in capsys.readouterr().err
    assert fit_states(parts) == []


def test_ctrl_c_in_the_last_step_is_heard_before_the_fit(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = vae_run(prior_layers=2, prior_steps=12, save_every=4)
    whole = train(run, digits, tmp_path / "whole")
    train(run, digits, tmp_path / "parts", 11)
    draw_curves = RunReporter.draw_curves
    sent = False

    def interrupted(self: RunReporter) -> None:
        nonlocal sent
        if not sent:  # once: the second time ends it at once
            sent = True
            os.kill(os.getpid(), signal.SIGINT)
        draw_curves(self)

    monkeypatch.setattr(RunReporter, "draw_curves", interrupted)
    with pytest.raises(Stopped, match="step 12"):
        train(run, digits, tmp_path / "parts")
    assert_same(whole.state_dict(), train(run, digits, tmp_path / "parts").state_dict())


def test_what_a_kill_behind_the_last_save_left_is_taken_away(
    digits: Dataset, tmp_path: Path
) -> None:
    run = vae_run(prior_layers=2, prior_steps=12)
    train(run, digits, tmp_path)
    (tmp_path / "prior.safetensors").write_bytes(b"left")
    train(run, digits, tmp_path)
    assert fit_states(tmp_path) == []


def test_the_best_epochs_time_is_its_own(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeldOutBound, "__call__", lambda *_: 1.0)  # so the first is the best
    run = vae_run(prior_layers=2, prior_steps=12, holdout_fraction=0.2)
    train(run, digits, tmp_path)
    (best, _), (last, _) = (
        read_tensors(tmp_path / f"{name}.safetensors") for name in ("best", "state")
    )
    assert int(best["step"]) == 3
    assert float(best["seconds"]) < float(last["seconds"])


def test_the_fitted_prior_goes_where_the_encoder_puts_images(
    digits: Dataset, tmp_path: Path
) -> None:
    settings = vae_run(prior_layers=2, prior_steps=150, lr=2e-2)
    torch.manual_seed(0)
    vae = VAE(settings.network).eval().requires_grad_(False)
    vae.encoder.head.weight.mul_(0.1)
    vae.encoder.head.bias.copy_(torch.tensor([2.0, -1.0, 0.5, -3.0, -3.0, -3.0]))
    decoder = {key: value.clone() for key, value in vae.decoder.state_dict().items()}
    fit_prior(settings, vae, digits)
    drawn = vae.prior(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)))
    assert drawn.mean(0).tolist() == pytest.approx([2.0, -1.0, 0.5], abs=0.3)
    assert (drawn.std(0) < 0.6).all()  # the posteriors' own deviation is e^-1.5 = 0.22
    assert_same(decoder, vae.decoder.state_dict())
    assert not any(parameter.requires_grad for parameter in vae.parameters())


def test_of_few_images_the_prior_is_kept_that_fits_others_best(digits: Dataset) -> None:
    """A flow with weights to spare, and eight images: it learns them by heart."""
    network = VaeConfig(
        latent_dim=3, image_size=8, channels=(4, 4), hidden=8, prior_layers=4, prior_hidden=64
    )
    settings = vae_run(network=network, prior_steps=300, lr=1e-2)
    few, others = (
        dataclasses.replace(digits, images=digits.images[rows], labels=digits.labels[rows])
        for rows in (slice(8), slice(8, 40))
    )
    fits = []
    for held_out in (None, others):
        torch.manual_seed(0)
        vae = VAE(settings.network).eval().requires_grad_(False)
        vae.encoder.head.weight[:3] *= 300  # latents about 0, far apart, each image's in a dot
        vae.encoder.head.bias[:3] -= vae.encode(to_pixels(few.images))[0].mean(dim=0)
        vae.encoder.head.bias[3:] = -6.0
        fit_prior(settings, vae, few, held_out)
        mu, logvar = vae.encode(to_pixels(others.images))
        fits.append(float(-vae.prior.log_prob(mu + torch.exp(logvar / 2)).mean()))
    last, kept = fits
    assert kept < last - 1
    fresh = FlowPrior(3, 4, 64).requires_grad_(False)
    assert kept < float(-fresh.log_prob(mu).mean())  # and it was fitted


def test_a_joint_prior_is_fitted_on_from_where_it_is(digits: Dataset, tmp_path: Path) -> None:
    run = vae_run(prior_layers=2, prior_fit="joint", pixels="binarised")
    part = train(run, digits, tmp_path / "parts", 11)
    assert part.state_dict()["prior.couplings.0.out.weight"].any()  # trained before the end
    whole = train(run, digits, tmp_path / "whole").state_dict()
    parts = train(run, digits, tmp_path / "parts").state_dict()
    assert_same(whole, parts)
    none = train(dataclasses.replace(run, prior_steps=0), digits, tmp_path / "none").state_dict()
    moved = {name for name in whole if not torch.equal(whole[name], none[name])}
    assert moved == {name for name in whole if name.startswith("prior.")}
    name = "prior.couplings.0.layer1.weight"
    assert (whole[name] - none[name]).abs().max() < 0.01  # five steps of 1e-3, not begun anew


def test_fitting_a_prior_warns_of_nothing(digits: Dataset) -> None:
    settings = vae_run(prior_layers=1)
    vae = VAE(settings.network).requires_grad_(False)
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fit_prior(settings, vae, digits)
    finally:
        torch.set_warn_always(False)
