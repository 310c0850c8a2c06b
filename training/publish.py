"""Releases a run: measures it, and writes checkpoint, picture and card to the store."""

import json
import subprocess
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from training.config import PRESETS, AnyRun, as_json
from training.data import default_data_root, load_mnist, to_pixels
from training.evaluate import Effort, evaluate
from training.figures import markdown_table, on_memorisation
from training.judge import judge_for
from training.networks import build
from training.networks.checkpoint import NAME, CheckpointError, Description, save
from training.networks.gan import Generator
from training.networks.vae import VAE
from training.reference import Reference
from training.run import STATE, TrainingError, read_config, save_grid
from training.train_gan import sample_grid
from training.train_vae import PRIOR_FITTED, reconstruction_grid

PICTURE_SEED = 7


def _averaged(folder: Path, kind: str, run: AnyRun) -> tuple[Generator | VAE, int, float]:
    """The run's averaged network in eval mode, the steps it has behind it, and their seconds."""
    path = folder / STATE
    if not path.exists():
        raise TrainingError(f"{folder} has no {STATE} yet: nothing to publish")
    network = build(kind, run.network)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            weights = {
                name.removeprefix("ema."): file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118
                if name.startswith("ema.")
            }
        network.load_state_dict(weights)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise TrainingError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    unfitted = isinstance(network, VAE) and network.config.prior_layers > 0
    if unfitted and not json.loads(metadata.get("carried", "{}")).get(PRIOR_FITTED):
        raise TrainingError(f"{folder} has not fitted its prior yet; finish it with --resume")
    return (
        network.eval().requires_grad_(False),
        int(metadata["step"]),
        float(metadata["seconds"]),
    )


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


def reference_for(
    data_root: Path | None, device: torch.device, effort: Effort | None = None
) -> Reference:
    """The real images on ``device``, with the judge that has learnt from them."""
    root = data_root or default_data_root()
    train = load_mnist(root, train=True).to(device)
    test = load_mnist(root, train=False).to(device)
    return Reference(judge_for(train, device), train, test, (effort or Effort()).samples)


def publish(
    folder: Path, store: Path, name: str | None, data_root: Path | None, device: torch.device
) -> Path:
    """Measure the run in ``folder`` and release it as ``<store>/<name>.safetensors``.

    Beside it go ``<name>.png`` (samples) and ``<name>.md`` (the card). An existing version is
    never overwritten: it may be in use, and its figures are known.

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
    network, steps, seconds = _averaged(folder, kind, run)
    effort = Effort()
    reference = reference_for(data_root or run_data_root, device, effort)
    figures = evaluate(network.to(device), reference, effort)
    train, test = reference.train, reference.test
    images_seen = steps * run.batch_size
    description = Description(
        kind=kind,
        network=run.network,
        labels=train.class_names if network.num_classes else (),
        data={
            "name": train.name,
            "licence": train.licence,
            "training_images": len(train),
            "digest": train.digest(),
        },
        training={
            "command": _command(kind, preset, run),
            "preset": preset,
            "seed": run.seed,
            "images_seen": images_seen,
            "seconds": round(seconds),
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
    path.with_suffix(".md").write_text(card(name, description, digest, network))
    print(f"published {path} ({path.stat().st_size / 1e6:.2f} MB), digest {digest[:12]}")
    return path


def card(name: str, description: Description, digest: str, network: Generator | VAE) -> str:
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

## Figures

`python -m training evaluate {name}` measures them again; docs/quality.md says how.

{markdown_table(description.metrics)}

## Limits

It knows the digits of its training set and nothing else.

{on_memorisation(description.metrics)}
"""
