"""A few steps of every loop on made-up digits: what moves, by how much, and in what order."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.training.tiny import (
    MEASURES,
    RUNS,
    assert_same,
    gan_run,
    lines,
    state,
    train,
    vae_run,
)
from training.config import GanRun
from training.data.dataset import Dataset, epoch_order, to_pixels
from training.loops import gan as train_gan
from training.loops import vae as train_vae
from training.networks.gan import Discriminator, DiscriminatorConfig, Generator
from training.networks.vae import VAE
from training.optim.losses import negative_bound, negative_elbo, reconstruction_nats
from training.runs.curves import PANELS


@pytest.mark.parametrize("name", RUNS)
def test_every_loop_trains_to_its_end(name: str, digits: Dataset, tmp_path: Path) -> None:
    network = train(RUNS[name], digits, tmp_path)
    log = lines(tmp_path)
    assert [line["step"] for line in log] == list(range(1, 13))
    assert [line["epoch"] for line in log] == [step / 4 for step in range(1, 13)]
    expected = (
        {"negative_elbo", "reconstruction", "kl"}
        if isinstance(network, VAE)
        else {"loss_d", "loss_g", "r1"}
    )
    drawn = {figure for _, legends in PANELS for figure in legends}
    assert expected | {"negative_bound"} | MEASURES <= drawn
    for line in log:
        more = {"negative_bound"} if name == "vae-draws" and line["step"] > 4 else set()
        assert set(line) == {"step", "epoch", "images"} | expected | more
    assert not network.training
    stored = state(tmp_path)
    for key, value in network.state_dict().items():
        assert torch.equal(value, stored[f"ema.{key}"]), key
        assert value.isfinite().all()
    raw = "vae" if isinstance(network, VAE) else "generator"
    assert any(not torch.equal(stored[f"{raw}.{k}"], v) for k, v in network.state_dict().items())


@pytest.mark.parametrize(("name", "size"), [("gan-dense", (102, 82)), ("cgan", (102, 82)),
                                            ("vae-conv", (102, 102))])  # fmt: skip
def test_each_epoch_and_the_first_step_leave_a_picture(
    name: str, size: tuple[int, int], digits: Dataset, tmp_path: Path
) -> None:
    train(RUNS[name], digits, tmp_path)
    pictures = sorted((tmp_path / "samples").iterdir())
    epochs = [f"epoch-00{n}.png" for n in (1, 2, 3)]
    assert [path.name for path in pictures] == [*epochs, "step-0000001.png"]
    for path in pictures:
        with Image.open(path) as image:
            assert image.size == size


@pytest.mark.parametrize("name", ["gan-dense", "cgan", "vae-conv"])
def test_same_seed_same_weights_and_another_seed_others(
    name: str, digits: Dataset, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    one = train(RUNS[name], digits, tmp_path / "one", 3).state_dict()
    torch.manual_seed(2)
    same = train(RUNS[name], digits, tmp_path / "same", 3).state_dict()
    other_run = dataclasses.replace(RUNS[name], seed=1)
    other = train(other_run, digits, tmp_path / "other", 3).state_dict()
    assert_same(one, same)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_a_vae_learns_its_digits(digits: Dataset, tmp_path: Path) -> None:
    train(vae_run("dense", epochs=15, lr=1e-2), digits, tmp_path)
    log = lines(tmp_path)
    assert log[-1]["negative_elbo"] < 0.9 * log[0]["negative_elbo"]
    for line in log:
        total = line["reconstruction"] + line["kl"]
        assert line["negative_elbo"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("loss", ["nonsaturating", "hinge"])
def test_a_discriminator_alone_learns_to_tell_real_from_fake(
    loss: str, digits: Dataset, tmp_path: Path
) -> None:
    settings = gan_run(
        *("compact", 10), loss=loss, epochs=15, generator_lr=0.0, discriminator_lr=1e-2, r1_gamma=0
    )
    train(settings, digits, tmp_path)
    log = lines(tmp_path)
    assert log[-1]["loss_d"] < 0.7 * log[0]["loss_d"]


@pytest.mark.parametrize("loss", ["nonsaturating", "hinge"])
def test_a_generator_alone_learns_to_be_judged_real(
    loss: str, digits: Dataset, tmp_path: Path
) -> None:
    settings = gan_run(
        "compact", loss=loss, epochs=15, generator_lr=1e-2, discriminator_lr=0.0, r1_gamma=0
    )
    train(settings, digits, tmp_path)
    log = lines(tmp_path)
    first, last = (sum(line["loss_g"] for line in part) for part in (log[:5], log[-5:]))
    assert last < first - 0.01


def test_the_second_head_learns_the_classes_of_real_images(digits: Dataset, tmp_path: Path) -> None:
    own = DiscriminatorConfig((8, 8, 8), residual=True, classifier=True)
    settings = gan_run(
        *("compact", 10),
        epochs=40,
        generator_lr=0.0,
        discriminator_lr=1e-2,
        classifier_weight=5.0,
        discriminator=own,
    )
    train(settings, digits, tmp_path)
    discriminator = Discriminator(settings.network, own)
    stored = state(tmp_path).items()
    discriminator.load_state_dict(
        {k.removeprefix("discriminator."): v for k, v in stored if k.startswith("discriminator.")}
    )
    _, classes = discriminator.with_classes(to_pixels(digits.images), digits.labels)
    assert classes is not None
    assert (classes.argmax(1) == digits.labels).float().mean() > 0.9


def test_the_weight_of_the_classes_moves_both_networks(digits: Dataset, tmp_path: Path) -> None:
    own = DiscriminatorConfig((4, 4, 4), classifier=True)
    for weight in (0.0, 5.0):
        settings = gan_run(num_classes=10, discriminator=own, classifier_weight=weight)
        train(settings, digits, tmp_path / str(weight), 1)
    without, with_it = (state(tmp_path / name) for name in ("0.0", "5.0"))
    for name in ("discriminator.features.0.weight", "generator.trunk.0.weight"):
        assert not torch.equal(without[name], with_it[name]), name


def test_the_classes_teach_a_gan_what_its_modes_draw(digits: Dataset, tmp_path: Path) -> None:
    settings = RUNS["gan-modes"]
    assert isinstance(settings, GanRun)
    settings = dataclasses.replace(
        settings, epochs=100, generator_lr=1e-2, discriminator_lr=1e-2, r1_gamma=0.0
    )
    generator = train(settings, digits, tmp_path)
    assert isinstance(generator, Generator)
    assert generator.num_classes == 0
    z = torch.randn(500, 12, generator=torch.Generator().manual_seed(0))
    means = torch.stack([to_pixels(digits.images[digits.labels == k]).mean(0) for k in range(10)])
    distances = (generator.generate(z)[:, None] - means).square().sum(dim=(2, 3, 4))  # (500, 10)
    assert (distances.argmin(dim=1) == generator.chosen_modes(z)).float().mean() > 0.5


def test_an_update_of_one_network_leaves_the_weights_of_the_other(
    digits: Dataset, tmp_path: Path
) -> None:
    for frozen, moving in (("generator", "discriminator"), ("discriminator", "generator")):
        folder = tmp_path / frozen
        settings: Any = {f"{frozen}_lr": 0.0}
        train(gan_run(**settings), digits, folder, 1)
        before = state(folder)
        train(gan_run(**settings), digits, folder, 3)
        after = state(folder)
        changed = {name for name in after if not torch.equal(before[name], after[name])}
        assert any(name.startswith(f"{moving}.") for name in changed)
        stirred = {name for name in changed if name.startswith(f"{frozen}.")}
        assert all("running_" in name or "num_batches" in name for name in stirred), stirred


def test_what_is_returned_is_the_average_unless_it_is_off(digits: Dataset, tmp_path: Path) -> None:
    network = train(gan_run(ema_halflife_images=0.0), digits, tmp_path, 3)
    raw = state(tmp_path)
    for key, value in network.state_dict().items():
        assert torch.equal(value, raw[f"generator.{key}"])


def test_r1_is_computed_every_so_many_steps_and_not_when_off(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def count(logits: Tensor, images: Tensor) -> Tensor:
        calls.append(len(images))
        return logits.sum() * 0

    monkeypatch.setattr(train_gan, "gradient_penalty_r1", count)
    train(gan_run(r1_every=4), digits, tmp_path / "on")
    assert calls == [10, 10, 10]  # at steps 0, 4 and 8
    train(gan_run(r1_gamma=0.0), digits, tmp_path / "off")
    assert len(calls) == 3


def test_the_weight_of_the_kl_rises_over_the_warmup(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    betas = []

    def note(*arguments: Any) -> tuple[Tensor, Tensor]:
        betas.append(arguments[3])
        return negative_elbo(*arguments)

    monkeypatch.setattr(train_vae, "negative_elbo", note)
    train(vae_run(beta=2.0, kl_warmup_epochs=1.0), digits, tmp_path / "warm", 6)
    assert betas == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])
    betas.clear()
    train(vae_run(beta=2.0, kl_warmup_epochs=0.0), digits, tmp_path / "at once", 2)
    assert betas == [2.0, 2.0]


def test_a_joint_prior_learns_and_the_kl_is_to_it(digits: Dataset, tmp_path: Path) -> None:
    settings = vae_run(prior_layers=2, prior_fit="joint", prior_steps=0, lr=1e-2, epochs=10)
    vae = train(settings, digits, tmp_path, 30)
    assert isinstance(vae, VAE)
    weights = dict(state(tmp_path))
    vae.load_state_dict({k.removeprefix("vae."): v for k, v in weights.items() if k[:4] == "vae."})
    assert vae.prior.state_dict()["couplings.0.out.weight"].any()
    train(settings, digits, tmp_path, 31)
    order = epoch_order(len(digits), settings.seed, 7)[20:30]  # step 31 is the third of its epoch
    noise = torch.Generator()
    noise.set_state(weights["rng.noise"])
    epsilon = torch.randn(10, 3, generator=noise)
    images = to_pixels(digits.images[order])
    with torch.no_grad():
        logits, mu, logvar = vae(images, epsilon)
        z = mu + epsilon * torch.exp(logvar / 2)
        kl = torch.distributions.Normal(mu, torch.exp(logvar / 2)).log_prob(z).sum(1)
        kl = kl - vae.prior.log_prob(z)
    assert lines(tmp_path)[-1]["kl"] == pytest.approx(kl.mean().item(), rel=1e-4)
    recon = reconstruction_nats(logits, images).mean().item()
    assert lines(tmp_path)[-1]["reconstruction"] == pytest.approx(recon, rel=1e-4)


def test_several_draws_are_weighed_once_the_run_is_that_far(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    def note(log_weights: Tensor) -> Tensor:
        shown.append(log_weights.detach())
        return negative_bound(log_weights)

    monkeypatch.setattr(train_vae, "negative_bound", note)
    train(RUNS["vae-draws"], digits, tmp_path)
    minimised, told = shown[:4] + shown[4::2], shown[5::2]
    assert [tuple(weights.shape) for weights in minimised] == [(10, 1)] * 4 + [(10, 3)] * 8
    alike = [torch.equal(*pair) for pair in zip(minimised[4:], told, strict=True)]
    assert alike == [False] * 3 + [True] * 5  # the weight of the KL rises over two epochs
    for weights, line in zip(told, lines(tmp_path)[4:], strict=True):
        bound = negative_bound(weights).mean().item()
        assert line["negative_bound"] == pytest.approx(bound, rel=1e-6)
        assert line["negative_elbo"] == pytest.approx(-weights.mean().item(), rel=1e-6)
        assert line["negative_bound"] < line["negative_elbo"]


def test_the_draws_of_an_image_share_its_pixels_and_have_their_own_noise(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def note(logits: Tensor, images: Tensor, kl: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        seen.append((logits.detach(), images))
        assert bool((kl.view(10, 3).std(dim=1) > 0).all())  # of the draw, not in closed form
        return negative_elbo(logits, images, kl, beta)

    monkeypatch.setattr(train_vae, "negative_elbo", note)
    train(vae_run(draws=3, pixels="binarised"), digits, tmp_path, 2)  # no learned prior: N(0, I)
    for logits, images in seen:
        assert len(images) == 30
        first, *others = images.view(10, 3, -1).unbind(1)
        assert all(torch.equal(first, other) for other in others)
        first, second, third = logits.view(10, 3, -1).unbind(1)
        assert not torch.allclose(first, second)
        assert not torch.allclose(second, third)


def test_binarised_pixels_are_drawn_anew_at_each_step(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def note(*arguments: Any) -> tuple[Tensor, Tensor]:
        seen.append(arguments[1])
        return negative_elbo(*arguments)

    monkeypatch.setattr(train_vae, "negative_elbo", note)
    grey = dataclasses.replace(digits, images=torch.full_like(digits.images, 51))
    train(vae_run(pixels="binarised"), grey, tmp_path)
    assert len(seen) == 12
    drawn = torch.stack(seen)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert drawn.mean().item() == pytest.approx(51 / 255, abs=0.02)
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(seen, 2))


@pytest.mark.parametrize(
    ("fraction", "factors"),
    [
        (0.0, [1.0, 1.0, 1.0, 1.0]),
        (0.5, [1.0, 1.0, 1.0, 0.5]),
        (1.0, [1.0, 0.75, 0.5, 0.25]),
        (0.25, [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_learning_rates_fall_over_the_last_part_of_a_run(
    fraction: float, factors: list[float]
) -> None:
    settings = gan_run(decay_fraction=fraction)
    found = [settings.learning_rate_factor(step, 4) for step in range(4)]
    assert found == pytest.approx(factors)


def test_both_learning_rates_are_multiplied_by_the_factor(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = []
    step = torch.optim.Adam.step

    def note(self: torch.optim.Adam, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", note)
    settings: Any = {"epochs": 1, "decay_fraction": 1.0}
    train(gan_run(generator_lr=4.0e-3, discriminator_lr=8.0e-3, **settings), digits, tmp_path / "g")
    expected = [[8.0e-3 * f, 4.0e-3 * f] for f in (1, 0.75, 0.5, 0.25)]
    assert rates == pytest.approx([rate for pair in expected for rate in pair])
    rates.clear()
    train(vae_run(lr=4.0e-3, **settings), digits, tmp_path / "v")
    assert rates == pytest.approx([4.0e-3, 3.0e-3, 2.0e-3, 1.0e-3])
