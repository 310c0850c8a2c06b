"""Publishes a run: quantises and measures it, and writes checkpoint, graphs, pictures and card."""

import dataclasses
import shlex
import sys
import tempfile
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
from training.networks.graph.network import with_graphs
from training.networks.header import NAME, Description
from training.networks.vae import VAE
from training.presets import PRESETS, as_text, shape_of
from training.release.class_frequencies import with_class_frequencies
from training.release.fit_table import fit_table, unseen_pictures
from training.release.gallery import Unmeasured
from training.release.portable.quantise import quantise
from training.release.release_files import Kept, write_release
from training.release.tone_curve import with_tone_curve
from training.release.weights import load_averaged
from training.runs.errors import TrainingError
from training.runs.film import save_film
from training.runs.reporting import CURVES
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
    portable: bool = True,
) -> Path:
    """Measure the run in ``folder`` and publish it as ``<store>/<name>.safetensors``.

    Beside it go its graphs, ``<name>.png`` and other pictures, ``<name>.md`` (the card), and the
    run's curves as ``<name>-curves.png`` and its film as ``<name>-film.webp``, if it kept them. All
    of them are written, or none. An existing version is never overwritten: it may be in use.

    Args:
        source, data_root: Where the run's images are now; None = where they were.
        best: Publish the epoch with the best measurement instead of the last weights.
        measured: False = publish without figures, and say so on the card.
        portable: Quantise it, so that it gives the same bytes on every machine.

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
    graphs = quantise(network) if portable else {}
    served = with_graphs(network, graphs)
    fit = None
    if complete and isinstance(served, VAE) and isinstance(run, VaeRun):
        fit = fit_table(served, unseen_pictures(train, test, run.holdout_fraction))
    effort, figures = Effort(), {}
    real: Reference | Unmeasured = Unmeasured(train, test)
    if measured:
        print(
            f"measuring {effort.samples:,} samples; some minutes on a CPU, none with --no-figures",
            flush=True,
        )
        real = reference_for(train, test, device, effort)
        figures = evaluate(served, real, effort)
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
            **({"holdout_groups": data.groups} if data.groups else {}),
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
    kept = Kept(folder / CURVES, save_film(folder))
    digest = write_release(path, network, description, graphs, real, effort, kept)
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
    if data.groups:
        options += [f"--holdout-groups {shlex.quote(data.groups)}"]
    preset_run = PRESETS[kind][preset]
    defaults = as_json(preset_run) | preset_run.small_set(images)
    changed = {
        name: as_text(value)
        for name, value in shape_of(run).items()
        if value != shape_of(preset_run)[name]
    }
    changed |= {
        name: value
        for name, value in as_json(run).items()
        if not isinstance(value, dict) and value != defaults[name]
    }
    options += [
        f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in changed.items()
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
