"""Releases a run: measures it, and writes checkpoint, picture and card to the store."""

import dataclasses
import html
import json
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from training.config import AnyRun, VaeRun, as_json
from training.data.dataset import DataError, Dataset, DataSpec
from training.data.named_sets import NAMED
from training.data.sources import DEFAULT, data_spec, load_data, relocated
from training.evaluation.evaluate import Effort, evaluate, reference_for
from training.evaluation.metric_docs import markdown_table, memorisation_summary
from training.evaluation.reference import SAMPLES, Reference
from training.loops.heldout import held_out_count
from training.loops.vae import PRIOR_FITTED
from training.networks import build
from training.networks.configs import GanConfig
from training.networks.files import CheckpointError
from training.networks.gan import Generator
from training.networks.header import NAME, Description
from training.networks.vae import VAE
from training.presets import PRESETS
from training.release.class_frequencies import shared
from training.release.export import save_with_graphs
from training.release.gallery import Unmeasured, save_gallery
from training.release.tone_curve import with_tone_curve
from training.runs.errors import STATE, TrainingError, one_line
from training.runs.run_folder import read_config, revisions
from training.runs.run_state import load_best, read_tensors

FEW = 1_000  # real images, by which figures are mostly chance
STORE = Path("models_store")  # where checkpoints go if nothing else is said


@dataclasses.dataclass(frozen=True)
class _Averaged:
    """Averaged weights of a run, and where in it they come from."""

    network: Generator | VAE  # in eval mode
    step: int
    seconds: float
    chosen: str  # in words, for header and card


def _averaged(folder: Path, kind: str, run: AnyRun, best: bool, images: int) -> _Averaged:
    """The run's last averaged weights, or those of the epoch that measured best.

    Args:
        images: That it learns from.

    Raises:
        TrainingError: there are none, a file is damaged, or a VAE's prior is not fitted yet.
    """
    path = folder / STATE
    again = f"python -m training {kind} --resume {shlex.quote(str(folder))}"
    if not path.exists():
        raise TrainingError(
            f"{folder} has no {STATE} yet: nothing to publish. A run saves one every "
            f"{run.save_every} steps and when it is stopped: {again}"
        )
    network = build(kind, run.network)
    try:
        about, tensors = read_tensors(path)
        step, seconds = int(about["step"]), float(about["seconds"])
        fitted = json.loads(about.get("carried", "{}")).get(PRIOR_FITTED)
        network.load_state_dict(
            {k.removeprefix("ema."): v for k, v in tensors.items() if k.startswith("ema.")}
        )
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"{path} is damaged: {one_line(error)}. Continue the run from an older copy, or start "
            "a new one"
        ) from error
    total = run.epochs * (images // min(run.batch_size, images))
    unfitted = isinstance(network, VAE) and network.config.prior_layers > 0
    if unfitted and not fitted:
        raise TrainingError(
            f"{folder} has not fitted its prior yet, at step {step:,} of {total:,}; finish it "
            f"with: {again}"
        )
    chosen = "the last averaged weights of the run"
    if step < total:
        chosen += f", which stood at step {step:,} of {total:,}"
        print(
            f"{folder} is not finished: step {step:,} of {total:,}. It is published as it stands; "
            f"to go on: {again}",
            file=sys.stderr,
            flush=True,
        )
    if best:
        about = load_best(folder, network)
        chosen = (
            f"the averaged weights of step {about['step']}, whose {about['measure']} was the "
            f"lowest of all epochs ({float(about['value']):.4g})"
        )
        step, seconds = int(about["step"]), float(about["seconds"])
    return _Averaged(network.eval().requires_grad_(False), step, seconds, chosen)


def _command(kind: str, preset: str, run: AnyRun, data: DataSpec, images: int) -> str:
    """The command that trains such a run: its preset, and the options that differ from it.

    Of a folder it has the name alone: where it lies is nobody's business.

    Args:
        images: Of the training set.
    """
    options = []
    if data.is_folder:
        options += [f"--data {shlex.quote(Path(data.source).name)}"]
    elif data.source != DEFAULT:
        options += [f"--data {data.source}"]
    shape = (data.image_size, data.image_channels)
    if data.is_folder or shape != NAMED[data.source].shape:
        options += [f"--image-size {shape[0]} --image-channels {shape[1]}"]
    preset_run = PRESETS[kind][preset]
    usual = as_json(preset_run) | preset_run.small_set(images)
    options += [
        f"--{name.replace('_', '-')} {value}"
        for name, value in as_json(run).items()
        if not isinstance(value, dict) and value != usual[name]
    ]
    return " ".join([f"python -m training {kind} --preset {preset}", *options])


def data_of(
    path: Path, description: Description, source: str | None, data_root: Path | None
) -> DataSpec:
    """The images that the published checkpoint at ``path`` was trained on.

    Args:
        source: As of ``data_spec``; None = the set that the header names.

    Raises:
        DataError: the header names none, because it was a folder.
    """
    stated = description.data
    if source is None:
        source = str(stated.get("source", stated.get("name")))
        if source not in NAMED:
            raise DataError(
                f"{path} was trained on a folder called {stated.get('name')!r}, and for privacy "
                "does not say where that lies: name it with --data"
            )
    shape = description.network
    return data_spec(
        source, data_root, image_size=shape.image_size, image_channels=shape.image_channels
    )


def check_data(path: Path, description: Description, train: Dataset) -> None:
    """Say so where ``train`` is not what the checkpoint at ``path`` states.

    Raises:
        DataError: its classes are others than those the checkpoint draws.
    """
    if description.labels and train.class_names != description.labels:
        raise DataError(
            f"{path} draws {', '.join(description.labels[:20])}, but the classes of {train.name} "
            f"are {', '.join(train.class_names[:20])}; name its own data with --data"
        )
    if train.digest() != description.data.get("digest"):
        print(
            f"the training images of {train.name} are not those that {path} states, or are decoded "
            "otherwise here: the two columns do not compare",
            file=sys.stderr,
        )


def publish(
    folder: Path,
    store: Path,
    name: str | None,
    source: str | None,
    data_root: Path | None,
    device: torch.device,
    best: bool = False,
    measured: bool = True,
) -> Path:
    """Measure the run in ``folder`` and release it as ``<store>/<name>.safetensors``.

    Beside it go ``<name>.png`` (samples) and ``<name>.md`` (the card). An existing version is
    never overwritten: it may be in use, and its figures are known. The run's curves go along as
    ``<name>-curves.png`` where it has drawn some. All of it is in the store, or nothing.

    Args:
        source, data_root: Where the run's images are now; None = where they were.
        best: Release the epoch that measured best, instead of the last weights.
        measured: Take the figures; False = release without, and say so on the card.

    Raises:
        TrainingError: nothing to publish, or the store cannot be written. CheckpointError: the
            name is taken. DataError: the images are gone, or others than the run's.
    """
    kind, preset, run, data = read_config(folder)
    data = relocated(data, source, data_root)
    name = f"{data.name}-{kind}-v1" if name is None else name
    path = store / f"{name}.safetensors"
    if not NAME.fullmatch(name):
        raise CheckpointError(
            f"{name!r} is no name: lower-case letters, digits, '.', '_' and '-', 64 at most"
        )
    if path.exists():
        raise CheckpointError(f"{path} exists; publish the new one under the next version's name")
    _check_writable(store)  # before minutes of measuring
    train, test = (part.to(device) for part in _real_images(data, measured))
    # Of what the run has learnt from; some of it may be gone.
    whole = data.digest in ("", train.digest())
    digest_of_images = data.digest or train.digest()
    images = sum(count for _, count in data.counts) or len(train)
    kept_out = held_out_count(images, run.holdout_fraction) if isinstance(run, VaeRun) else 0
    averaged = _averaged(folder, kind, run, best, images - kept_out)
    network = averaged.network.to(device)
    if whole:
        network = with_tone_curve(shared(network, train), train)
    effort, figures = Effort(), {}
    real: Reference | Unmeasured = Unmeasured(train, test)
    if measured:
        print(
            f"measuring {effort.samples:,} samples, some minutes on a CPU; --no-figures goes "
            "without",
            flush=True,
        )
        real = reference_for(train, test, device, effort)
        figures = evaluate(network, real, effort)
    data = data.filled_in(train)  # the oldest runs left its shape open
    images_seen = averaged.step * min(run.batch_size, images - kept_out)
    curves = folder / "curves.png"
    description = Description(
        kind=kind,
        network=network.config,
        labels=train.class_names if network.num_classes else (),
        data={
            "name": train.name,
            "source": "folder" if data.is_folder else data.source,
            "fit": "crop" if data.is_folder else "pad",
            "licence": train.licence,
            "training_images": images - kept_out,
            "digest": digest_of_images,
        },
        training={
            "command": _command(kind, preset, run, data, images),
            "preset": preset,
            "seed": run.seed,
            "images_seen": images_seen,
            "seconds": round(averaged.seconds),
            "weights": averaged.chosen,
            "revision": ", then ".join(revisions(folder)),
            "torch": torch.__version__,
            "run": {k: v for k, v in as_json(run).items() if k != "network"},
        },
        metrics=figures,
    )
    with _staged(path) as staged:
        digest = save_with_graphs(staged, network, description)
        pictures = save_gallery(staged, network, real, effort.samples)
        if curves.exists():
            shutil.copyfile(curves, staged.with_name(f"{name}-curves.png"))
            pictures.append((f"{name}-curves.png", "Losses and measures against images seen."))
        page = card(name, store, description, digest, network, pictures)
        staged.with_suffix(".md").write_text(page)
    print(f"published {path} ({path.stat().st_size / 1e6:.2f} MB), digest {digest[:12]}")
    served = shlex.quote(str(store))
    print(f"serve it with: python -m app --models-dir {served}")
    print(f"and ask for: /generate?model={name}")
    return path


def _real_images(data: DataSpec, measured: bool) -> tuple[Dataset, Dataset]:
    """The run's images; where nothing is measured on them, what is left of them will do.

    Raises:
        DataError: they are not there, or others than the run's.
    """
    try:
        return load_data(data)
    except DataError as error:
        names = tuple(name for name, _ in data.counts)
        if measured or not data.digest or not Path(data.source).is_dir():
            raise
        train, test = load_data(dataclasses.replace(data, digest=""))
        if train.class_names != names:
            raise
        print(
            f"{str(error).partition('. ')[0]}. As nothing is measured, it is published all the "
            "same, without what is fitted to the images: a tone curve, how often classes come",
            file=sys.stderr,
        )
        return train, test


def _check_writable(store: Path) -> None:
    """Make the store where there is none.

    Raises:
        TrainingError: nothing can be written to it.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store):
            pass
    except OSError as error:
        raise TrainingError(
            f"cannot write to {store}: {error.strerror}; name another folder with --store"
        ) from error


@contextmanager
def _staged(path: Path) -> Iterator[Path]:
    """Where to write the checkpoint ``path`` and all beside it, so that it comes whole or not.

    A hidden folder in the store: what is in it at the end is moved out, the checkpoint last, so
    that a service which looks meanwhile sees no half of it; after an error it is taken away.

    Raises:
        TrainingError: something cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".publishing-") as folder:
            staged = Path(folder) / path.name
            yield staged
            for file in sorted(Path(folder).iterdir(), key=lambda file: file == staged):
                file.replace(path.with_name(file.name))
    except OSError as error:
        raise TrainingError(
            f"could not write {path}: {error.strerror or error}. Nothing was published: mend that, "
            "or name another folder with --store, then publish again"
        ) from error


def _text(text: str) -> str:
    """A person's words for a cell of a Markdown table: no markup, and no end of the cell."""
    return re.sub(r"([\\`*_\[\]!|])", r"\\\1", html.escape(text, quote=False))


def card(
    name: str,
    store: Path,
    description: Description,
    digest: str,
    network: Generator | VAE,
    pictures: list[tuple[str, str]],
) -> str:
    """The checkpoint's page for people, in Markdown: what its header says, with meanings.

    Args:
        store: Where it is published; of a folder outside this one the page does not tell the path.
        pictures: (file beside the card, caption), the samples first.
    """
    training, data = description.training, description.data
    parameters = sum(p.numel() for p in network.parameters())
    what = {
        "gan": "An unconditional GAN: every sample is of a class of its own choice.",
        "cgan": "A conditional GAN: draws a sample of the label you ask for.",
        "vae": "A variational autoencoder: samples, encodes and decodes.",
    }[description.kind]
    if isinstance(description.network, GanConfig) and description.network.modes:
        what += (
            f" The images' labels taught it: the largest of z's first {description.network.modes} "
            "numbers chooses the class."
        )
        if description.network.mode_offsets:
            what += " Offsets on these numbers let classes come as often as in the training images."
    shown = [
        f"![{caption.split(':')[0].rstrip('.')}]({file})\n\n{caption}" for file, caption in pictures
    ]
    pictured = "\n\n".join(shown[1:])
    folder = " --data FOLDER" if data["source"] == "folder" else ""
    here = Path.cwd()
    place = (here / store).resolve()
    if place != (here / STORE).resolve():
        inside = place.is_relative_to(here.resolve())
        folder += f" --store {shlex.quote(str(store)) if inside else 'STORE'}"
    again = f"`python -m training evaluate {name}{folder}` measures"
    if description.metrics:
        figures = f"{again} them again; docs/explanation/quality.md says how.\n\n"
        real = description.metrics.get("real_images", SAMPLES)
        if real < FEW:
            figures += (
                f"There are {real:,} real images to stand beside the samples: distances, their "
                "floors and all that is compared with neighbours say little of so few.\n\n"
            )
        figures += markdown_table(description.metrics)
        copies = memorisation_summary(description.metrics)
    else:
        figures = f"Not measured: it was published with `--no-figures`. {again} them."
        copies = "Whether it repeats training images was not measured."
    knots = len(description.network.tone)
    tone = (
        f" Its last step is a tone curve of {knots} knots, fitted after training to the histogram "
        "of the training images' pixels."
        if knots
        else ""
    )
    return f"""# {name}

{what}

{shown[0]}

| | |
| --- | --- |
| kind, architecture | {description.kind}, {description.network.architecture} |
| parameters | {parameters:,} |
| latent dimensions | {network.latent_dim} |
| image | {" x ".join(str(side) for side in network.image_shape)} (channels, height, width) |
| labels | {_text(", ".join(description.labels)) or "none"} |
| digest | `{digest}` |

## Data

{data["name"]}, {data["training_images"]:,} training images, licence {_text(data["licence"])}.

## Recipe

`{training["command"]}` at revision {training["revision"]}, seed {training["seed"]}:
{training["images_seen"]:,} images seen in {training["seconds"] / 60:.0f} minutes on the machine it
was trained on, torch {training["torch"]}. The header of the checkpoint holds every setting.
Published are {training["weights"]}.{tone}

## Figures

{figures}

## Pictures

{pictured}

## Limits

It knows what its training set shows and nothing else.

{copies}
"""
