"""Publishes a run: measures it, and writes checkpoint, graphs, pictures and card to the store."""

import dataclasses
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from training.config import AnyRun, VaeRun, as_json
from training.data.dataset import DataError, Dataset, DataSpec
from training.data.named_sets import NAMED
from training.data.sources import DEFAULT, load_data, relocated
from training.evaluation.evaluate import Effort, evaluate, reference_for
from training.evaluation.reference import Reference
from training.loops.heldout import held_out_count
from training.networks.files import CheckpointError
from training.networks.header import NAME, Description
from training.networks.vae import VAE
from training.presets import PRESETS
from training.release.card import card
from training.release.class_frequencies import with_class_frequencies
from training.release.export import save_with_graphs
from training.release.fit_table import fit_table, unseen_pictures
from training.release.gallery import Unmeasured, save_gallery
from training.release.tone_curve import with_tone_curve
from training.release.weights import load_averaged
from training.runs.errors import TrainingError
from training.runs.run_folder import read_config, revisions


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
    """Measure the run in ``folder`` and publish it as ``<store>/<name>.safetensors``.

    Beside it go its graphs, ``<name>.png`` and other pictures, ``<name>.md`` (the card), and the
    run's curves as ``<name>-curves.png`` if it has drawn some. All of them are written, or none. An
    existing version is never overwritten: it may be in use.

    Args:
        source, data_root: Where the run's images are now; None = where they were.
        best: Publish the epoch with the best measurement instead of the last weights.
        measured: False = publish without figures, and say so on the card.

    Raises:
        TrainingError: nothing to publish, or the store cannot be written. CheckpointError: the
            name is taken. DataError: the images are missing, or are not the run's.
    """
    kind, preset, run, data = read_config(folder)
    data = relocated(data, source, data_root)
    name = f"{data.name}-{kind}-v1" if name is None else name
    path = store / f"{name}.safetensors"
    if not NAME.fullmatch(name):
        raise CheckpointError(
            f"{name!r} is not a valid name; allowed: 1 to 64 lower-case letters, digits, '.', '_' "
            "and '-', the first a letter or digit"
        )
    if path.exists():
        raise CheckpointError(f"{path} exists; publish the new one under the next version's name")
    _check_writable(store)  # before minutes of measuring
    train, test = (part.to(device) for part in _real_images(data, measured))
    complete = data.digest in ("", train.digest())  # all images of the run are still there
    images = sum(count for _, count in data.counts) or len(train)
    held_out = held_out_count(images, run.holdout_fraction) if isinstance(run, VaeRun) else 0
    averaged = load_averaged(folder, kind, run, best, images - held_out)
    network = averaged.network.to(device)
    if complete:
        network = with_tone_curve(with_class_frequencies(network, train), train)
    fit = None
    if complete and isinstance(network, VAE) and isinstance(run, VaeRun):
        fit = fit_table(network, unseen_pictures(train, test, run.holdout_fraction))
    effort, figures = Effort(), {}
    real: Reference | Unmeasured = Unmeasured(train, test)
    if measured:
        print(
            f"measuring {effort.samples:,} samples; some minutes on a CPU, none with --no-figures",
            flush=True,
        )
        real = reference_for(train, test, device, effort)
        figures = evaluate(network, real, effort)
    description = Description(
        kind=kind,
        network=network.config,
        labels=train.class_names if network.num_classes else (),
        data={
            "name": train.name,
            "source": "folder" if data.is_folder else data.source,
            "fit": "crop" if data.is_folder else "pad",
            "licence": train.licence,
            "training_images": images - held_out,
            "digest": data.digest or train.digest(),
        },
        training={
            "command": _training_command(kind, preset, run, data, images),
            "preset": preset,
            "seed": run.seed,
            "images_seen": averaged.step * min(run.batch_size, images - held_out),
            "seconds": round(averaged.seconds),
            "weights": averaged.origin,
            "revision": ", then ".join(revisions(folder)),
            "torch": torch.__version__,
            "run": {k: v for k, v in as_json(run).items() if k != "network"},
        },
        metrics=figures,
        fit=fit,
    )
    curves = folder / "curves.png"
    with _staged(path) as staged:
        digest = save_with_graphs(staged, network, description)
        pictures = save_gallery(staged, network, real, effort.samples)
        if curves.exists():
            shutil.copyfile(curves, staged.with_name(f"{name}-curves.png"))
            pictures.append((f"{name}-curves.png", "Losses and measures against images seen."))
        page = card(name, store, description, digest, network, pictures)
        staged.with_suffix(".md").write_text(page)
    print(f"published {path} ({path.stat().st_size / 1e6:.2f} MB), digest {digest[:12]}")
    print(f"serve it with: python -m app --models-dir {shlex.quote(str(store))}")
    print(f"and request: /generate?model={name}")
    return path


def _training_command(kind: str, preset: str, run: AnyRun, data: DataSpec, images: int) -> str:
    """The command that trains such a run: its preset, and the options that differ from it.

    Only the name of a folder is given, not its path, for privacy.

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
    defaults = as_json(preset_run) | preset_run.small_set(images)
    options += [
        f"--{name.replace('_', '-')} {value}"
        for name, value in as_json(run).items()
        if not isinstance(value, dict) and value != defaults[name]
    ]
    return " ".join([f"python -m training {kind} --preset {preset}", *options])


def _real_images(data: DataSpec, measured: bool) -> tuple[Dataset, Dataset]:
    """The run's images; without a measurement those that are left will do.

    Raises:
        DataError: they are missing, or are not the run's.
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
            f"{str(error).partition('. ')[0]}. With --no-figures it is published all the same, but "
            "without what is fitted to the images: tone curve, class frequencies and fit table",
            file=sys.stderr,
        )
        return train, test


def _check_writable(store: Path) -> None:
    """Create the store if it does not exist.

    Raises:
        TrainingError: files cannot be written to it.
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
    """A temporary path for the checkpoint ``path`` and its files: all are published, or none.

    It is in a hidden folder of the store. At the end the files are moved out, the checkpoint last,
    so that a service that starts meanwhile sees no incomplete model. After an error they are
    deleted.

    Raises:
        TrainingError: a file cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".publishing-") as folder:
            staged = Path(folder) / path.name
            yield staged
            for file in sorted(Path(folder).iterdir(), key=lambda file: file == staged):
                file.replace(path.with_name(file.name))
    except OSError as error:
        raise TrainingError(
            f"could not write {path}: {error.strerror or error}. Nothing was published: fix that, "
            "or name another folder with --store, then publish again"
        ) from error
