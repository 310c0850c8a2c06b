"""A few steps of every loop on made-up digits; resuming to the bit; the command line to the end."""

import dataclasses
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from training import cas, judge, measures, run, train_gan, train_vae
from training.__main__ import main
from training.config import PRESETS, AnyRun, GanRun, VaeRun, as_json, from_json
from training.damage import BY_HEART, DAMAGES
from training.data import Dataset, DataSpec
from training.evaluate import Effort
from training.figures import BESIDE, MEANINGS, rows
from training.losses import generator_loss, negative_elbo
from training.networks.checkpoint import load
from training.networks.configs import GanConfig, VaeConfig
from training.networks.gan import DiscriminatorConfig, Generator
from training.networks.vae import VAE
from training.run import LossLog, RunState, TrainingError, new_run_folder, read_config, write_config
from training.sources import data_spec
from training.sources import load as load_data

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


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


def vae_run(architecture: str = "conv", prior_layers: int = 0, **settings: Any) -> VaeRun:
    """Tiny, 12 steps on ``digits``, a log line each."""
    network = VaeConfig(
        architecture,
        latent_dim=3,
        image_size=8,
        channels=(4, 4),
        hidden=8,
        prior_layers=prior_layers,
        prior_hidden=4,
    )
    defaults: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 10,
        "log_every": 1,
        "ema_halflife_images": 20.0,
        "prior_steps": 5,
        "network": network,
    }
    return VaeRun(**(defaults | settings))


RUNS: dict[str, AnyRun] = {
    "gan-compact": gan_run(),
    "gan-dense": gan_run("dense"),  # with dropout: the global generator counts
    "gan-dcgan": gan_run("dcgan"),  # with spectral norm: its vectors count
    "cgan": gan_run(num_classes=10, loss="hinge"),
    "vae-conv": vae_run(),
    "vae-dense": vae_run("dense"),
    "vae-flow": vae_run(prior_layers=2),
}


def train(
    settings: AnyRun, data: Dataset, folder: Path, max_steps: int | None = None
) -> Generator | VAE:
    folder.mkdir(exist_ok=True)
    if isinstance(settings, VaeRun):
        return train_vae.train_vae(settings, data, folder, CPU, max_steps)
    return train_gan.train_gan(settings, data, folder, CPU, max_steps)


def lines(folder: Path) -> list[dict[str, Any]]:
    """losses.jsonl without the clock's column."""
    found = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    for line in found:
        del line["images_per_s"]
    return found


def state(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "state.safetensors")


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# The loops.


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
    assert all(set(line) == {"step", "epoch"} | expected for line in log)
    assert not network.training
    stored = state(tmp_path)
    for key, value in network.state_dict().items():
        assert torch.equal(value, stored[f"ema.{key}"]), key
        assert value.isfinite().all()
    raw = "vae" if isinstance(network, VAE) else "generator"
    assert any(not torch.equal(stored[f"{raw}.{k}"], v) for k, v in network.state_dict().items())


@pytest.mark.parametrize(("name", "size"), [("gan-dense", (102, 82)), ("cgan", (102, 82)),
                                            ("vae-conv", (102, 102))])  # fmt: skip
def test_each_epoch_leaves_a_picture(
    name: str, size: tuple[int, int], digits: Dataset, tmp_path: Path
) -> None:
    train(RUNS[name], digits, tmp_path)
    pictures = sorted((tmp_path / "samples").iterdir())
    assert [path.name for path in pictures] == [f"epoch-00{n}.png" for n in (1, 2, 3)]
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

    def note(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        betas.append(arguments[4])
        return negative_elbo(*arguments)

    monkeypatch.setattr(train_vae, "negative_elbo", note)
    train(vae_run(beta=2.0, kl_warmup_epochs=1.0), digits, tmp_path / "warm", 6)
    assert betas == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])
    betas.clear()
    train(vae_run(beta=2.0, kl_warmup_epochs=0.0), digits, tmp_path / "at once", 2)
    assert betas == [2.0, 2.0]


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


# Resuming.


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(
    name: str, digits: Dataset, tmp_path: Path
) -> None:
    whole = train(RUNS[name], digits, tmp_path / "whole", 6)
    train(RUNS[name], digits, tmp_path / "parts", 3)
    torch.manual_seed(99)  # another process would not have the same global generator either
    resumed = train(RUNS[name], digits, tmp_path / "parts", 6)

    assert_same(whole.state_dict(), resumed.state_dict())
    assert_same(state(tmp_path / "whole"), state(tmp_path / "parts"))
    kinds = {key.partition(".")[0] for key in state(tmp_path / "whole")}
    gan = {"generator", "discriminator", "ema", "optimizer_g", "optimizer_d", "rng"}
    assert kinds == (gan if isinstance(whole, Generator) else {"vae", "ema", "optimizer", "rng"})
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")
    assert len(lines(tmp_path / "whole")) == 6
    picture = "samples/epoch-001.png"
    assert (tmp_path / "whole" / picture).read_bytes() == (
        tmp_path / "parts" / picture
    ).read_bytes()


def test_a_resumed_log_shows_the_last_r1_until_the_next(digits: Dataset, tmp_path: Path) -> None:
    settings = gan_run("dense", r1_every=8)
    train(settings, digits, tmp_path / "whole", 6)
    train(settings, digits, tmp_path / "parts", 3)
    train(settings, digits, tmp_path / "parts", 6)
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")


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


def test_the_fitted_prior_goes_where_the_encoder_puts_images(
    digits: Dataset, tmp_path: Path
) -> None:
    settings = vae_run(prior_layers=2, prior_steps=150, lr=2e-2)
    torch.manual_seed(0)
    vae = VAE(settings.network).eval().requires_grad_(False)
    vae.encoder.head.weight.mul_(0.1)
    vae.encoder.head.bias.copy_(torch.tensor([2.0, -1.0, 0.5, -3.0, -3.0, -3.0]))
    decoder = {key: value.clone() for key, value in vae.decoder.state_dict().items()}
    train_vae._fit_prior(settings, vae, digits)
    drawn = vae.prior(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)))
    assert drawn.mean(0).tolist() == pytest.approx([2.0, -1.0, 0.5], abs=0.3)
    assert (drawn.std(0) < 0.6).all()  # the posteriors' own deviation is e^-1.5 = 0.22
    assert_same(decoder, vae.decoder.state_dict())
    assert not any(parameter.requires_grad for parameter in vae.parameters())


def test_fitting_a_prior_warns_of_nothing(digits: Dataset) -> None:
    settings = vae_run(prior_layers=1)
    vae = VAE(settings.network).requires_grad_(False)
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            train_vae._fit_prior(settings, vae, digits)
    finally:
        torch.set_warn_always(False)


def test_resuming_a_finished_run_changes_nothing(digits: Dataset, tmp_path: Path) -> None:
    first = train(RUNS["gan-dense"], digits, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = train(RUNS["gan-dense"], digits, tmp_path)
    assert_same(first.state_dict(), again.state_dict())
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_the_state_is_saved_every_so_many_steps_and_at_the_last(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    save = RunState.save

    def note(self: RunState, folder: Path) -> None:
        steps.append(self.step)
        save(self, folder)

    monkeypatch.setattr(RunState, "save", note)
    train(vae_run(save_every=5), digits, tmp_path)
    assert steps == [5, 10, 12]


def test_a_half_written_state_of_a_killed_run_is_ignored(digits: Dataset, tmp_path: Path) -> None:
    train(RUNS["vae-dense"], digits, tmp_path / "whole", 6)
    train(RUNS["vae-dense"], digits, tmp_path / "killed", 3)
    data = (tmp_path / "killed/state.safetensors").read_bytes()
    (tmp_path / "killed/.state.safetensors.tmp").write_bytes(data[: len(data) // 2])
    train(RUNS["vae-dense"], digits, tmp_path / "killed", 6)
    assert_same(state(tmp_path / "whole"), state(tmp_path / "killed"))
    assert not (tmp_path / "killed/.state.safetensors.tmp").exists()


@pytest.mark.parametrize("what", ["kill", "full disk", "failing rename"])
def test_a_state_that_cannot_be_written_leaves_the_old_one_whole(
    what: str, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(RUNS["vae-dense"], digits, tmp_path, 3)
    old = (tmp_path / "state.safetensors").read_bytes()

    def half(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(old[:100])
        raise KeyboardInterrupt if what == "kill" else OSError(28, "No space left on device")

    def refuse(*arguments: object) -> None:
        raise OSError(13, "Permission denied")

    if what == "failing rename":
        monkeypatch.setattr(os, "replace", refuse)
    else:
        monkeypatch.setattr(run, "save_file", half)
    with pytest.raises(KeyboardInterrupt if what == "kill" else TrainingError) as caught:
        train(RUNS["vae-dense"], digits, tmp_path, 6)
    if what != "kill":
        assert str(tmp_path / "state.safetensors") in str(caught.value)
        assert f"--resume {tmp_path}" in str(caught.value)
        assert not (tmp_path / ".state.safetensors.tmp").exists()
    assert (tmp_path / "state.safetensors").read_bytes() == old
    monkeypatch.undo()
    train(RUNS["vae-dense"], digits, tmp_path, 6)
    train(RUNS["vae-dense"], digits, tmp_path / "whole", 6)
    assert_same(state(tmp_path / "whole"), state(tmp_path))
    assert lines(tmp_path / "whole") == lines(tmp_path)


# Losses that are no numbers.


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


# The run's folder.


def test_run_folders_are_numbered_from_the_first_free_one(tmp_path: Path) -> None:
    runs = tmp_path / "made" / "for it"
    names = [new_run_folder(runs, "gan", "dense").name for _ in range(3)]
    assert names == ["gan-dense-001", "gan-dense-002", "gan-dense-003"]
    assert new_run_folder(runs, "vae", "dense").name == "vae-dense-001"
    (runs / "gan-dense-002").rmdir()
    assert new_run_folder(runs, "gan", "dense").name == "gan-dense-002"


def test_runs_that_start_together_get_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_run_folder(tmp_path, "gan", "dense"), range(40)))
    assert len(set(folders)) == 40


@pytest.mark.parametrize(
    ("kind", "preset"), [(kind, preset) for kind in PRESETS for preset in PRESETS[kind]]
)
def test_settings_come_back_from_json_and_from_the_folder(
    kind: str, preset: str, tmp_path: Path
) -> None:
    settings = dataclasses.replace(PRESETS[kind][preset], seed=5)
    assert from_json(kind, json.loads(json.dumps(as_json(settings)))) == settings
    data = DataSpec("/some where", "data", 32, 3, "CC0", "ab" * 32)
    write_config(tmp_path, kind, preset, settings, data)
    assert read_config(tmp_path) == (kind, preset, settings, data)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"kind": "gan"}', '{"kind": "gan", "run": {"network": []}}'),
        '{"kind": "gan", "run": {"network": {"depth": 3}}}',
    ],
)
def test_a_config_of_another_version_is_refused_with_its_folder(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(TrainingError, match=re.escape(f"{tmp_path}/config.json")):
        read_config(tmp_path)


def test_a_resumed_log_drops_what_came_after_the_state_and_a_line_cut_off(tmp_path: Path) -> None:
    log = LossLog(tmp_path, 0)
    for step in range(1, 6):
        log.write(step, step / 4, 10 * step, {"loss": torch.tensor(float(step))})
    with log.path.open("a") as file:
        file.write('{"step": 6, "lo')
    LossLog(tmp_path, 3).write(4, 1.0, 40, {"loss": torch.tensor(9.0)})
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [
        *((1, 1.0), (2, 2.0), (3, 3.0), (4, 9.0)),
    ]


def test_a_log_counts_images_a_second_but_for_the_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 5.0, 7.0])
    monkeypatch.setattr("training.run.time.monotonic", lambda: next(clock))
    log = LossLog(tmp_path, 0)
    log.write(1, 0.1, 100, {})
    log.write(2, 0.2, 300, {})
    rates = [json.loads(line)["images_per_s"] for line in log.path.read_text().splitlines()]
    assert rates == [None, 100.0]


# The command line.


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder beside the data, so that no test writes into the checkout."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "500")  # help and errors in one line each
    return folder


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
    with pytest.raises(SystemExit) as caught:
        main(["gan", *options, "--save-every", "2"])
    assert caught.value.code == 130
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("stopped; at most 2 steps are lost. Continue with: ")
    command = shlex.split(message.partition("Continue with: ")[2])
    assert command[:3] == ["python", "-m", "training"]
    main([*command[3:], "--max-steps", "5", "--threads", "1"])
    one, other = here / "runs/gan-compact-001", here / "runs/gan-compact-002"
    assert_same(state(one), state(other))


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
    for command in (*PRESETS, "publish", "evaluate"):
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
        ("gan --r1-every 0", "r1_every is 0; it must be at least 1"),
        ("gan --generator-lr -1", "generator_lr is -1.0; allowed: at least 0"),
        ("cgan --discriminator-lr inf", "discriminator_lr is inf; allowed: at least 0"),
        ("gan --r1-gamma nan", "r1_gamma is nan; allowed: at least 0"),
        ("gan --adam-beta1 1.5", "adam_beta1 is 1.5; allowed: at least 0 and below 1"),
        ("cgan --adam-beta2 1", "adam_beta2 is 1.0; allowed: at least 0 and below 1"),
        ("gan --seed -1", "seed is -1; allowed: 0 to"),
        (f"vae --seed {2**64}", f"seed is {2**64}; allowed: 0 to"),
        ("vae --lr -0.1", "lr is -0.1; allowed: at least 0"),
        ("vae --kl-warmup-epochs -1", "kl_warmup_epochs is -1.0; allowed: at least 0"),
        ("vae --beta nan", "beta is nan; allowed: at least 0"),
        ("vae --prior-steps 0", "prior_steps is 0; allowed: at least 1"),
        ("gan --data nowhere", "no data 'nowhere': there is no such folder"),
        (
            "gan --data mnits",
            "no data 'mnits': there is no such folder, and the sets",
        ),
        ("gan --data digits --data-licence 'a\nb'", r"the licence 'a\nb' is not a line of at most"),
        ("gan --resume nowhere", "nowhere is no run folder: it has no config.json"),
        ("publish nowhere", "nowhere is no run folder: it has no config.json"),
        ("evaluate", "name checkpoints of the store, or --all of them, or --damage alone"),
        ("evaluate x --damage", "name checkpoints of the store, or --all of them, or --damage"),
        ("evaluate nowhere-v1", "models_store/nowhere-v1.safetensors: No such file"),
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
        ("gan --epochs many", "argument --epochs: invalid int value: 'many'"),
        ("gan --max-steps -1", "argument --max-steps: '-1' is not a whole number of at least 1"),
        ("vae --max-steps 0", "argument --max-steps: '0' is not"),
        ("evaluate x --threads 0", "argument --threads: '0' is not a whole number of at least 1"),
        ("gan --threads -1", "argument --threads: '-1' is not"),
        ("vae --r1-gamma 1", "unrecognized arguments: --r1-gamma 1"),
        ("gan --device tpu", "invalid choice: 'tpu'"),
        ("publish", "the following arguments are required: run"),
        (
            "gan --image-size 30",
            "argument --image-size: invalid choice: 30 (choose from 28",
        ),
        ("gan --image-channels 2", "argument --image-channels: invalid choice: '2'"),
        ("publish x --image-size 32", "unrecognized arguments: --image-size 32"),
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
    assert run.pick_device("auto") == CPU


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


def test_training_that_diverges_is_one_line(made_up_mnist: Path, here: Path) -> None:
    options = [*small(made_up_mnist), "--preset", "dense", "--lr", "1e20", "--log-every", "1"]
    assert "training diverged. Lower the learning rates" in failure("vae", *options)


# Publishing.


@dataclasses.dataclass(frozen=True)
class Published:
    """A trained and published run, in a working folder of its own."""

    kind: str
    here: Path
    data_root: Path
    printed: str

    @property
    def name(self) -> str:
        return f"mnist-{self.kind}-v1"

    @property
    def path(self) -> Path:
        return self.here / "models_store" / f"{self.name}.safetensors"


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure with a judge of one epoch, sixty samples, and twenty for CAS."""
    monkeypatch.setattr(judge, "EPOCHS", 1)
    monkeypatch.setattr(judge, "BATCH", 20)
    monkeypatch.setattr(judge, "LEAST_STEPS", 1)
    monkeypatch.setattr(Effort.__init__, "__defaults__", (60, 20, 3, 10))
    monkeypatch.setattr(cas, "STEPS", 2)
    monkeypatch.setattr(measures, "KID_SUBSETS", 2)
    monkeypatch.setattr(train_vae, "PRIOR_BATCH", 16)


@pytest.fixture(scope="module", params=["gan", "cgan", "vae"])
def published(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mnist_writer: Callable[[Path], Path],
) -> Published:
    kind = request.param
    parent = tmp_path_factory.mktemp(f"published-{kind}")
    root, here = mnist_writer(parent / "data"), parent / "here"
    here.mkdir()
    prior = ["--prior-steps", "3"] if kind == "vae" else []
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as monkeypatch:
        quick(monkeypatch)
        monkeypatch.chdir(here)
        main([kind, *small(root), "--seed", "3", *prior])
        read, write = os.pipe()
        with os.fdopen(read) as reader:
            with os.fdopen(write, "w") as writer:
                monkeypatch.setattr(sys, "stdout", writer)
                main(["publish", f"runs/{kind}-compact-001", "--threads", "1"])
                monkeypatch.undo()
            printed = reader.read()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    return Published(kind, here, root, printed)


@pytest.fixture
def at_published(published: Published, monkeypatch: pytest.MonkeyPatch) -> Published:
    quick(monkeypatch)
    monkeypatch.chdir(published.here)
    return published


def test_a_published_checkpoint_is_the_runs_average(published: Published) -> None:
    network, description = load(published.path)
    assert description.kind == published.kind
    run_state = state(published.here / f"runs/{published.kind}-compact-001")
    averaged = {k.removeprefix("ema."): v for k, v in run_state.items() if k.startswith("ema.")}
    assert_same(network.state_dict(), averaged)
    assert description.labels == (tuple("0123456789") if published.kind == "cgan" else ())
    assert description.digest[:12] in published.printed
    assert str(published.path.name) in published.printed


def test_its_header_tells_data_training_and_metrics(published: Published) -> None:
    description = load(published.path)[1]
    data, _ = load_data(data_spec("mnist", published.data_root))
    assert description.data == {
        "name": "mnist",
        "source": "mnist",
        "fit": "pad",
        "licence": data.licence,
        "training_images": 40,
        "digest": data.digest(),
    }
    training = description.training
    assert training["preset"] == "compact"
    assert training["seed"] == 3
    assert training["images_seen"] == 80
    assert training["seconds"] >= 0
    assert training["torch"] == torch.__version__
    assert training["revision"]
    assert training["run"]["batch_size"] == 10
    metrics = description.metrics
    assert metrics["samples"] == 60
    for name in ("test", "train"):
        assert metrics[f"frechet_{name}"] > 0
        assert metrics[f"frechet_{name}_floor"] > -1e-6  # 0 where all images are in the floor
    assert 0 <= metrics["judge_accuracy"] <= 1
    assert ("conditional_accuracy" in metrics) == (published.kind == "cgan")
    assert ("cas" in metrics) == (published.kind == "cgan")
    assert ("negative_elbo_nats" in metrics) == (published.kind == "vae")
    assert ("nll_binarised_nats" in metrics) == (published.kind == "vae")
    for name in metrics:
        for end in BESIDE:
            name = name.removesuffix(end)
        assert name in MEANINGS


def test_its_card_and_picture_stand_beside_it(published: Published) -> None:
    description = load(published.path)[1]
    card = published.path.with_suffix(".md").read_text()
    assert card.startswith(f"# {published.name}\n")
    assert f"`{description.digest}`" in card
    assert f"]({published.name}.png)" in card
    assert description.training["command"] in card
    for row in rows(description.metrics):
        assert f"| {' | '.join(row)} |" in card
    assert "repeat training images: of 60 samples" in card or "repeats training images: of" in card
    with Image.open(published.path.with_suffix(".png")) as picture:
        assert picture.size == (302, 302 if published.kind == "vae" else 242)
    names = {path.name for path in published.path.parent.iterdir()}
    pictures = (".png", "-morph.png", "-nearest.png")
    graphs = [f".{operation}.onnx" for operation in description.operations]
    assert names == {
        f"{published.name}{end}" for end in (".safetensors", ".md", *pictures, *graphs)
    }
    assert all(f"]({published.name}{end})" in card for end in pictures)


def test_the_command_in_its_header_trains_the_same_weights(at_published: Published) -> None:
    _, description = load(at_published.path)
    command = shlex.split(description.training["command"])
    assert command[:4] == ["python", "-m", "training", at_published.kind]
    where = ["--data-root", str(at_published.data_root), "--runs", "again", "--threads", "1"]
    main([*command[3:], *where])
    (folder,) = (at_published.here / "again").iterdir()
    assert_same(state(folder), state(at_published.here / f"runs/{at_published.kind}-compact-001"))


def test_publishing_over_a_published_name_is_refused(at_published: Published) -> None:
    before = {path: path.read_bytes() for path in at_published.path.parent.iterdir()}
    message = failure("publish", f"runs/{at_published.kind}-compact-001", "--threads", "1")
    assert f"models_store/{at_published.name}.safetensors exists" in message
    assert "next version" in message
    assert before == {path: path.read_bytes() for path in at_published.path.parent.iterdir()}


def test_evaluate_measures_what_the_header_states(
    at_published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data-root", str(at_published.data_root), "--threads", "1", "--json", "x.json"]
    options += ["--nll-samples", "3", "--nll-images", "10"]
    main(["evaluate", "--all", *options])
    metrics = load(at_published.path)[1].metrics
    assert json.loads(Path("x.json").read_text()) == {at_published.name: metrics}
    printed = capsys.readouterr().out.strip()
    name, head, *lines = printed.splitlines()
    assert name == at_published.name
    assert head.split() == ["figure", "value", "real", "stated", "meaning"]
    for figure, value, *_ in rows(metrics):
        assert value in printed
        assert any(line.split()[0] == figure for line in lines), figure


def test_a_quick_evaluation_leaves_out_what_takes_long(at_published: Published) -> None:
    root = ["--data-root", str(at_published.data_root), "--threads", "1"]
    main(["evaluate", at_published.name, "--quick", *root, "--json", "x.json"])
    (figures,) = json.loads(Path("x.json").read_text()).values()
    assert figures["samples"] == 60
    metrics = load(at_published.path)[1].metrics
    assert {name for name in metrics if name not in figures} == {
        "gan": set(),
        "cgan": {"cas", "cas_real", "cas_gap_points", "cas_images"},
        "vae": {"nll_binarised_nats", "nll_standard_error", "nll_samples", "nll_images"},
    }[at_published.kind]
    assert all(metrics[name] == value for name, value in figures.items())


def test_damage_is_measured_without_a_checkpoint(
    made_up_mnist: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(Effort.__init__, "__defaults__", (20, 20, 3, 10))
    main(["evaluate", "--damage", "--data-root", str(made_up_mnist), "--json", "x.json"])
    found = json.loads(Path("x.json").read_text())
    assert list(found) == [*DAMAGES, BY_HEART]
    assert found[BY_HEART]["training_copies"] == 20
    assert found["none"]["training_copies"] == 0
    assert found["none"]["cas_images"] == 20
    assert "| `recall` |" in capsys.readouterr().out


def test_the_judge_is_trained_once_and_kept(at_published: Published) -> None:
    kept_here = (at_published.here / "runs/judges").iterdir()
    (path,) = (path for path in kept_here if "-cas-" not in path.name)
    data, _ = load_data(data_spec("mnist", at_published.data_root))
    assert path.name == f"mnist-{data.digest()[:12]}-v{judge.VERSION}.safetensors"
    before = path.read_bytes()
    kept = judge.judge_for(data, CPU)
    assert_same(kept.state_dict(), load_file(path))
    assert path.read_bytes() == before
    fresh = judge.judge_for(data, CPU, at_published.here / "elsewhere")
    assert_same(kept.state_dict(), fresh.state_dict())  # data and fixed seeds alone
    assert not kept.training
    assert not any(parameter.requires_grad for parameter in kept.parameters())


def test_a_run_without_a_state_is_not_published(made_up_mnist: Path, here: Path) -> None:
    folder = new_run_folder(here / "runs", "gan", "compact")
    settings = PRESETS["gan"]["compact"]
    write_config(folder, "gan", "compact", settings, data_spec("mnist", made_up_mnist))
    assert "has no state.safetensors yet: nothing to publish" in failure("publish", str(folder))
