"""Releases a run: measures it, and writes checkpoint, picture and card to the store."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from training.config import PRESETS, AnyRun, VaeRun, as_json
from training.data import Dataset, default_data_root, load_mnist, to_pixels
from training.evaluate import evaluate
from training.heldout import held_out_count
from training.judge import judge_for
from training.networks import build
from training.networks.checkpoint import NAME, CheckpointError, Description, load, save
from training.networks.gan import Generator
from training.networks.vae import VAE
from training.record import save_grid
from training.run import STATE, TrainingError, load_best, read_config
from training.train_gan import sample_grid
from training.train_vae import PRIOR_FITTED, reconstruction_grid

PICTURE_SEED = 7

MEANINGS = {
    "samples": "samples drawn, none rejected, no truncation",
    "seed": "seed of those samples",
    "frechet_test": "Fréchet distance to the 10,000 test images, in the judge's features",
    "frechet_test_floor": "the same for 10,000 real training images: the best to hope for",
    "frechet_test_ratio": "the first over the second",
    "frechet_train": "Fréchet distance to all training images",
    "frechet_train_floor": "the same for 10,000 real training images",
    "frechet_train_ratio": "the first over the second",
    "judge_accuracy": "accuracy of the judge on real test images",
    "conditional_accuracy": "samples that the judge takes for the label asked for",
    "conditional_accuracy_worst": "the same for the worst label",
    "conditional_accuracy_worst_label": "that label",
    "class_kl_to_uniform": "KL divergence of the samples' classes from uniform, nats",
    "negative_elbo_nats": "negative ELBO of the test images, grey levels as Bernoulli means, "
    "nats an image",
    "reconstruction_nats": "of which reconstruction",
    "kl_nats": "of which KL divergence from the prior",
    "reconstruction_mse": "mean squared error of reconstructed test images, pixels in 0 to 1",
    "reconstruction_accuracy": "reconstructed test images whose class the judge still sees",
}


@dataclasses.dataclass(frozen=True)
class _Averaged:
    """Averaged weights of a run, and where in it they come from."""

    network: Generator | VAE  # in eval mode
    step: int
    seconds: float
    chosen: str  # in words, for header and card


def _averaged(folder: Path, kind: str, run: AnyRun, best: bool) -> _Averaged:
    """The run's last averaged weights, or those of the epoch that measured best.

    Raises:
        TrainingError: there are none, a file is damaged, or a VAE's prior is not fitted yet.
    """
    path = folder / STATE
    if not path.exists():
        raise TrainingError(f"{folder} has no {STATE} yet: nothing to publish")
    network = build(kind, run.network)
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata()
            weights = {
                name.removeprefix("ema."): file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118
                if name.startswith("ema.")
            }
        network.load_state_dict(weights)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise TrainingError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    unfitted = isinstance(network, VAE) and network.config.prior_layers > 0
    if unfitted and not json.loads(about.get("carried", "{}")).get(PRIOR_FITTED):
        raise TrainingError(f"{folder} has not fitted its prior yet; finish it with --resume")
    chosen = "the last averaged weights of the run"
    if best:
        about = load_best(folder, network)
        chosen = (
            f"the averaged weights of step {about['step']}, whose {about['measure']} was the "
            f"lowest of all epochs ({float(about['value']):.4g})"
        )
    network = network.eval().requires_grad_(False)
    return _Averaged(network, int(about["step"]), float(about["seconds"]), chosen)


def _revision() -> str:
    """The source's commit, with + when files have changed since; unknown outside a checkout."""
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip()


def _command(kind: str, preset: str, run: AnyRun) -> str:
    """The command that trains such a run: its preset, and the options that differ from it."""
    usual = as_json(PRESETS[kind][preset])
    options = [
        f"--{name.replace('_', '-')} {value}"
        for name, value in as_json(run).items()
        if not isinstance(value, dict) and value != usual[name]
    ]
    return " ".join([f"python -m training {kind} --preset {preset}", *options])


def measure(
    network: Generator | VAE, data_root: Path | None, device: torch.device
) -> tuple[dict[str, Any], Dataset, Dataset]:
    """Figures of a network, with the training and test sets they were measured on."""
    root = data_root or default_data_root()
    train = load_mnist(root, train=True).to(device)
    test = load_mnist(root, train=False).to(device)
    judge = judge_for(train, device)
    return evaluate(network.to(device), judge, train, test), train, test


def evaluate_stored(
    path: Path, data_root: Path | None, device: torch.device
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A published checkpoint's figures as measured now, and as its header states them."""
    network, description = load(path)
    return measure(network, data_root, device)[0], description.metrics


def publish(
    folder: Path,
    store: Path,
    name: str | None,
    data_root: Path | None,
    device: torch.device,
    best: bool = False,
) -> Path:
    """Measure the run in ``folder`` and release it as ``<store>/<name>.safetensors``.

    Beside it go ``<name>.png`` (samples) and ``<name>.md`` (the card). An existing version is
    never overwritten: it may be in use, and its figures are known. The run's curves go along as
    ``<name>-curves.png`` where it has drawn some.

    Args:
        best: Release the epoch that measured best, instead of the last weights.

    Raises:
        TrainingError: nothing to publish. CheckpointError: the name is taken.
    """
    kind, preset, run, run_data_root = read_config(folder)
    name = name or f"mnist-{kind}-v1"
    path = store / f"{name}.safetensors"
    if not NAME.fullmatch(name):
        raise CheckpointError(
            f"{name!r} is no name: lower-case letters, digits, '.', '_' and '-', 64 at most"
        )
    if path.exists():
        raise CheckpointError(f"{path} exists; publish the new one under the next version's name")
    averaged = _averaged(folder, kind, run, best)
    network = averaged.network
    figures, train, test = measure(network, data_root or run_data_root, device)
    kept_out = held_out_count(len(train), run.holdout_fraction) if isinstance(run, VaeRun) else 0
    images_seen = averaged.step * min(run.batch_size, len(train) - kept_out)
    curves = folder / "curves.png"
    description = Description(
        kind=kind,
        network=run.network,
        labels=train.class_names if network.num_classes else (),
        data={
            "name": train.name,
            "licence": train.licence,
            "training_images": len(train) - kept_out,
            "digest": train.digest(),
        },
        training={
            "command": _command(kind, preset, run),
            "preset": preset,
            "seed": run.seed,
            "images_seen": images_seen,
            "seconds": round(averaged.seconds),
            "weights": averaged.chosen,
            "revision": _revision(),
            "torch": torch.__version__,
            "run": {k: v for k, v in as_json(run).items() if k != "network"},
        },
        metrics=figures,
    )
    digest = save(path, network, description)
    if isinstance(network, VAE):
        grid = reconstruction_grid(network, to_pixels(test.images[:20]), PICTURE_SEED)
    else:
        grid = sample_grid(network, columns=10, rows=8, seed=PICTURE_SEED)
    save_grid(path.with_suffix(".png"), grid, columns=10)
    if curves.exists():
        shutil.copyfile(curves, store / f"{name}-curves.png")
    path.with_suffix(".md").write_text(
        card(name, description, digest, network, with_curves=curves.exists())
    )
    print(f"published {path} ({path.stat().st_size / 1e6:.2f} MB), digest {digest[:12]}")
    return path


def card(
    name: str,
    description: Description,
    digest: str,
    network: Generator | VAE,
    with_curves: bool = False,
) -> str:
    """The checkpoint's page for people, in Markdown: what its header says, with meanings."""
    training, data = description.training, description.data
    parameters = sum(p.numel() for p in network.parameters())
    what = {
        "gan": "An unconditional GAN: every sample is of a class of its own choice.",
        "cgan": "A conditional GAN: draws a sample of the label you ask for.",
        "vae": "A variational autoencoder: samples, encodes and decodes.",
    }[description.kind]
    pictured = {
        "gan": "80 samples, none chosen.",
        "cgan": "80 samples, none chosen: a label a column, the same z along a row.",
        "vae": "Two rows of test images, each over its reconstruction from mu; then 60 samples "
        "from the prior, none chosen.",
    }[description.kind]
    curves = f"\n![Losses against images seen]({name}-curves.png)\n" if with_curves else ""
    figures = "\n".join(
        f"| {key} | {value} | {MEANINGS.get(key, '')} |"
        for key, value in description.metrics.items()
    )
    return f"""# {name}

{what}

![Samples]({name}.png)

{pictured}

| | |
| --- | --- |
| kind, architecture | {description.kind}, {description.network.architecture} |
| parameters | {parameters:,} |
| latent dimensions | {network.latent_dim} |
| image | {" x ".join(str(side) for side in network.image_shape)} (channels, height, width) |
| labels | {", ".join(description.labels) or "none"} |
| digest | `{digest}` |

## Data

{data["name"]}, {data["training_images"]:,} training images, licence {data["licence"]}.

## Recipe

`{training["command"]}` at revision {training["revision"]}, seed {training["seed"]}:
{training["images_seen"]:,} images seen in {training["seconds"] / 60:.0f} minutes on the machine it
was trained on, torch {training["torch"]}. The header of the checkpoint holds every setting.
Published are {training["weights"]}.
{curves}
## Figures

`python -m training evaluate {name}` measures them again.

| Figure | Value | Meaning |
| --- | --- | --- |
{figures}

## Limits

It knows the digits of its training set and nothing else. Whether it repeats training images
closely has not been measured.
"""
