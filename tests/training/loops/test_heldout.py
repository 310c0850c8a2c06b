"""What each epoch's end measures, and the best weights that it keeps."""

import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.training.tiny import (
    CPU,
    assert_same,
    gan_run,
    measured,
    state,
    train,
    vae_run,
)
from training.config import VaeRun
from training.data.dataset import Dataset, epoch_order, to_pixels
from training.evaluation import judge, likelihood
from training.evaluation.judge_networks import ChoosingJudge
from training.evaluation.likelihood import binarised, importance_nll
from training.loops import heldout
from training.loops import vae as train_vae
from training.loops.heldout import FrechetToTraining, HeldOutBound, pixel_features, split
from training.networks.gan import Generator
from training.networks.vae import VAE
from training.optim.losses import log_posterior, negative_elbo
from training.runs.errors import TrainingError
from training.runs.reporting import RunReporter
from training.runs.run_state import BestWeights, RunState, load_best

SEVERAL = vae_run(prior_layers=2, prior_fit="joint", draws=3, holdout_fraction=0.1)


def test_pixel_features_are_means_of_blocks() -> None:
    images = torch.zeros(2, 1, 28, 28)
    images[1, 0, 4:8, 0:4] = 1.0
    features = pixel_features(images)
    assert features.shape == (2, 49)
    assert features[1].nonzero().tolist() == [[7]]
    assert features[1, 7] == 1.0


def test_samples_like_the_training_images_are_nearer(digits: Dataset) -> None:
    measure = FrechetToTraining(digits, CPU, cache=Path("nowhere"))
    assert measure.name == "frechet_pixels"

    class Copier(Generator):
        def generate(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
            return to_pixels(digits.images[torch.arange(len(z)) % 40])

    network = gan_run("dense").network
    torch.manual_seed(0)
    assert measure(Copier(network).eval()) < 0.1 * measure(Generator(network).eval())


def test_the_judge_is_asked_where_one_is_cached(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChoosingJudge, "epochs", 1)
    monkeypatch.setattr(judge, "BATCH", 20)
    monkeypatch.setattr(judge, "LEAST_STEPS", 1)
    trained = judge.judge_for(ChoosingJudge, digits, CPU, tmp_path)
    measure = FrechetToTraining(digits, CPU, cache=tmp_path)
    assert measure.name == "frechet_judge"
    order = epoch_order(40, heldout.SEED, 0)
    with torch.no_grad():
        expected = trained.features(to_pixels(digits.images[order]))
    torch.testing.assert_close(measure.real, expected)


def test_a_split_is_a_partition_that_does_not_depend_on_the_run(digits: Dataset) -> None:
    kept, held = split(digits, 0.1)
    assert (len(kept), len(held)) == (36, 4)
    together = torch.cat([kept.images, held.images]).flatten(1)
    assert sorted(together.tolist()) == sorted(digits.images.flatten(1).tolist())
    again = split(digits, 0.1)[1]
    assert torch.equal(held.images, again.images)
    assert torch.equal(held.labels, again.labels)
    assert len(split(digits, 0.0)[1]) == 0
    assert len(split(digits, 1e-6)[1]) == 1
    assert heldout.held_out_count(60_000, 0.02) == 1200


@pytest.mark.parametrize(("beta", "binarise"), [(1.0, True), (0.5, False)])
def test_the_held_out_elbo_is_the_mean_over_its_images(
    beta: float, binarise: bool, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    vae = VAE(vae_run(prior_layers=2).network).eval()
    for parameter in vae.prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    monkeypatch.setattr(heldout, "BATCH", 15)
    values = []
    for seed, grey in enumerate(to_pixels(digits.images).split(15), heldout.SEED):
        images = binarised(grey, seed) if binarise else grey
        noise = torch.randn(len(images), 3, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            logits, mu, logvar = vae(images, noise)
            z = mu + noise * torch.exp(logvar / 2)
            kl = log_posterior(noise, logvar) - vae.prior.log_prob(z)
            values += negative_elbo(logits, images, kl, beta)[0].tolist()
    assert len(values) == 40
    measure = HeldOutBound(digits, CPU, beta, binarise, 1)
    assert measure(vae) == pytest.approx(sum(values) / 40, rel=1e-6)
    assert measure(vae) == measure(vae)


def test_of_several_draws_the_held_out_figure_is_their_bound(digits: Dataset) -> None:
    torch.manual_seed(0)
    vae = VAE(vae_run(prior_layers=2).network).eval().requires_grad_(False)
    for parameter in vae.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # draws that differ
    one, four, many = (HeldOutBound(digits, CPU, 1.0, True, draws) for draws in (1, 4, 400))
    assert (one.name, four.name) == ("heldout_negative_elbo", "heldout_negative_bound")
    assert one(vae) > four(vae) > many(vae)
    nll = importance_nll(vae, binarised(to_pixels(digits.images), heldout.SEED), 400, 40, 1).nll
    assert many(vae) == pytest.approx(nll, abs=0.03)


def test_it_shows_no_progress_of_its_own(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar within a run's bar would stay on the terminal after each report."""
    monkeypatch.setattr(likelihood, "progress_of", None)
    for draws in (1, 3):
        HeldOutBound(digits, CPU, 1.0, False, draws)(VAE(vae_run().network))


def test_a_run_of_several_draws_measures_both_and_keeps_the_best_bound(
    digits: Dataset, tmp_path: Path
) -> None:
    train(SEVERAL, digits, tmp_path)
    elbos, bounds = (
        [line[name] for line in measured(tmp_path) if name in line]
        for name in ("heldout_negative_elbo", "heldout_negative_bound")
    )
    assert len(elbos) == len(bounds) == 3
    assert not set(elbos) & set(bounds)
    about = load_best(tmp_path, VAE(SEVERAL.network))
    assert float(about["value"]) == pytest.approx(min(bounds), rel=1e-6)


def test_the_held_out_bound_takes_no_more_draws_than_a_report_has_time_for(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(HeldOutBound, "__call__", lambda self, _network: asked.append(self.draws))
    monkeypatch.setattr(train_vae, "MOST_DRAWS", 2)
    monkeypatch.setattr(RunReporter, "measurement", lambda *_: None)
    monkeypatch.setattr(BestWeights, "offer", lambda *_: None)
    train(SEVERAL, digits, tmp_path, 4)
    assert asked == [1, 2]


def test_held_out_images_are_not_trained_on(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = vae_run("dense", holdout_fraction=0.25)
    held = split(digits, 0.25)[1]
    changed = digits.images.clone()
    order = epoch_order(40, heldout.SEED, 1)[:10]
    changed[order] = 255 - changed[order]
    other = Dataset("other", "", changed, digits.labels, digits.class_names)
    assert not torch.equal(split(other, 0.25)[1].images, held.images)
    one = train(settings, digits, tmp_path / "one").state_dict()
    assert_same(one, train(settings, other, tmp_path / "other").state_dict())
    first, second = measured(tmp_path / "one")[-1], measured(tmp_path / "other")[-1]
    assert first["heldout_negative_elbo"] != second["heldout_negative_elbo"]


@pytest.mark.parametrize("figures", [[3.0, 1.0, 2.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
@pytest.mark.parametrize("kind", ["gan", "vae"])
def test_the_best_epochs_average_is_kept(
    kind: str,
    figures: list[float],
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def figure(_self: object, network: torch.nn.Module) -> float:
        seen.append({k: v.clone() for k, v in network.state_dict().items()})
        return figures[len(seen) - 1]

    monkeypatch.setattr(FrechetToTraining, "__call__", figure)
    monkeypatch.setattr(HeldOutBound, "__call__", figure)
    settings = gan_run("dense") if kind == "gan" else vae_run("dense", holdout_fraction=0.05)
    train(settings, digits, tmp_path, 5)
    train(settings, digits, tmp_path)  # the best so far is known after a restart
    best = figures.index(min(figures))
    assert_same(load_file(tmp_path / "best.safetensors"), seen[best])
    steps = 3 if isinstance(settings, VaeRun) else 4
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        assert file.metadata()["step"] == str(steps * (best + 1))
        assert float(file.metadata()["value"]) == 1.0


@pytest.mark.parametrize("figures", [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
def test_the_best_vae_gets_its_prior_too(
    figures: list[float], digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = iter(figures)
    monkeypatch.setattr(HeldOutBound, "__call__", lambda _self, _network: next(ends))
    settings = vae_run("dense", prior_layers=2, holdout_fraction=0.05)
    train(settings, digits, tmp_path)
    best = load_file(tmp_path / "best.safetensors")
    assert best["prior.couplings.0.out.weight"].any()
    last = {k.removeprefix("ema."): v for k, v in state(tmp_path).items() if k.startswith("ema.")}
    is_last = figures[-1] == 1.0
    assert torch.equal(best["decoder.trunk.0.weight"], last["decoder.trunk.0.weight"]) == is_last
    if is_last:
        assert_same(best, last)


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch", "reported"),
    [
        (24, 1875, list(range(1, 25))),  # MNIST
        (50, 1000, list(range(1, 51))),
        (20, 50, list(range(4, 21, 4))),  # scikit-learn's digits
        (1000, 1, list(range(200, 1001, 200))),  # twenty pictures
        (101, 1000, [*range(3, 100, 3), 101]),
        (3, 4, [1, 2, 3]),
    ],
)
def test_a_run_reports_every_epoch_or_every_nth_and_the_last(
    epochs: int, steps_per_epoch: int, reported: list[int]
) -> None:
    run = gan_run(epochs=epochs)
    assert [e + 1 for e in range(epochs) if run.reports_after(e, steps_per_epoch)] == reported


@pytest.mark.parametrize("kind", ["gan", "vae"])
def test_many_short_epochs_leave_few_pictures_whether_or_not_they_were_resumed(
    kind: str, digits: Dataset, tmp_path: Path
) -> None:
    settings = gan_run("dense", epochs=23) if kind == "gan" else vae_run("dense", epochs=23)
    train(settings, digits, tmp_path / "whole")
    train(settings, digits, tmp_path / "parts", 37)
    train(settings, digits, tmp_path / "parts")
    names = sorted(path.name for path in (tmp_path / "whole/samples").iterdir())
    epochs = [f"epoch-{epoch:03d}.png" for epoch in (5, 10, 15, 20, 23)]
    assert names == [*epochs, "step-0000001.png"]
    assert names == sorted(path.name for path in (tmp_path / "parts/samples").iterdir())
    whole, parts = measured(tmp_path / "whole"), measured(tmp_path / "parts")
    assert whole == parts
    assert len(whole) == (5 if kind == "gan" else 0)  # no image is held out
    assert_same(state(tmp_path / "whole"), state(tmp_path / "parts"))


def test_another_measure_starts_anew(digits: Dataset, tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 2)
    run_state = RunState({}, {}, torch.Generator())
    BestWeights(run_state, "one").offer(tmp_path, network, 1.0)
    BestWeights(run_state, "one").offer(tmp_path, network, 2.0)
    assert load_best(tmp_path, network)["measure"] == "one"
    BestWeights(run_state, "two").offer(tmp_path, network, 5.0)
    assert load_best(tmp_path, network)["measure"] == "two"
    BestWeights(run_state, "two").offer(tmp_path, network, math.nan)  # never the best
    assert float(load_best(tmp_path, network)["value"]) == 5.0


def test_best_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    BestWeights(RunState({}, {}, torch.Generator()), "one").offer(
        tmp_path, torch.nn.Linear(2, 2), 1.0
    )
    with pytest.raises(TrainingError, match=r"best\.safetensors is damaged"):
        load_best(tmp_path, torch.nn.Linear(3, 2))
