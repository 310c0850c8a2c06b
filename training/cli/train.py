"""``gan``, ``cgan`` and ``vae``: resolve the settings, then train."""

import argparse
import dataclasses
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from training.cli.arguments import SHAPES, new_data_spec
from training.cli.threads import usable_cores
from training.config import AnyRun, GanRun, VaeRun, settings_as_lines
from training.data.dataset import DataError, Dataset, DataSpec
from training.data.sources import load_data, relocated
from training.loops.dry_run import describe_run
from training.loops.gan import PICTURED, shown_classes, train_gan
from training.loops.heldout import held_out_count
from training.loops.vae import train_vae
from training.optim import distributed
from training.optim.hardware import Hardware, check_devices, pick_hardware
from training.presets import PRESETS, with_shape
from training.runs.errors import TrainingError
from training.runs.interrupts import Stopped
from training.runs.reporting import CURVES, LOG, summary_writer_class
from training.runs.run_folder import (
    locked,
    new_run_folder,
    next_run_folder,
    read_config,
    write_config,
)


def train(arguments: argparse.Namespace, argv: list[str]) -> None:
    """Run a training command.

    Args:
        argv: As typed, for the processes of ``--devices``.
    """
    # The cheapest checks first, and all before anything is written.
    check_devices(arguments.device, arguments.devices)
    if arguments.tensorboard:
        summary_writer_class()
    resolved = _resolve(arguments)
    kind, run = resolved.kind, resolved.run
    if arguments.devices > 1:
        Hardware(processes=arguments.devices).rows(min(run.batch_size, len(resolved.data)))
    if arguments.dry_run:
        folder = resolved.folder or next_run_folder(arguments.runs, kind, resolved.preset)
        hardware = pick_hardware(arguments.device, arguments.compile)
        print(describe_run(kind, resolved.preset, run, resolved.data, hardware, folder))
        return
    if arguments.devices > 1 and not distributed.is_worker():
        if resolved.folder:
            with locked(resolved.folder):  # rank 0 will lock it: fail before processes are started
                pass
        raise SystemExit(distributed.launch(arguments.devices, argv))

    with ExitStack() as stack:
        _train(resolved, arguments, stack)


@dataclasses.dataclass(frozen=True)
class _Resolved:
    """What a training command's arguments amount to."""

    kind: str
    preset: str
    run: AnyRun
    spec: DataSpec
    data: Dataset
    folder: Path | None  # of the run to resume; None = a new run


def _resolve(arguments: argparse.Namespace) -> _Resolved:
    """Settings and data of a training command: of the run to resume, or of a new one."""
    kind = arguments.command
    fields = {field.name for field in dataclasses.fields(GanRun)}
    fields |= {field.name for field in dataclasses.fields(VaeRun)}
    given = {name: value for name, value in vars(arguments).items() if name in fields}
    shape = {name: value for name, value in vars(arguments).items() if name in SHAPES}

    if arguments.resume:
        folder = arguments.resume
        stored_kind, preset, run, stored = read_config(folder)
        if stored_kind != kind:
            raise TrainingError(
                f"{folder} is a {stored_kind} run: python -m training {stored_kind}"
            )
        fixed = ("preset", "image_size", "image_channels", "holdout_groups", "data_licence")
        given |= {name: True for name in fixed if getattr(arguments, name) is not None}
        if given := given | shape:
            raise TrainingError(
                f"--resume continues with the run's own settings; leave out {', '.join(given)}"
            )
        spec = relocated(stored, arguments.data, arguments.data_root)
        data, _ = load_data(spec)
        return _Resolved(kind, preset, run, spec, data, folder)

    preset = arguments.preset or next(iter(PRESETS[kind]))
    defaults = with_shape(PRESETS[kind][preset], **shape)
    wanted = dataclasses.replace(defaults, **given)  # refuses bad settings before images are read
    if unused := {k: why for k, why in wanted.unused(kind).items() if k in given}:
        reasons = "; ".join(
            f"--{name.replace('_', '-')} has no effect: {why}" for name, why in unused.items()
        )
        raise TrainingError(f"{kind} with preset {preset}: {reasons}. Leave out what has no effect")
    spec = new_data_spec(arguments, defaults.network.image_size, arguments.data_licence or "")
    data, _ = load_data(spec)
    modes = wanted.label_modes if isinstance(wanted, GanRun) else 0
    run = dataclasses.replace(_fitted_to_data(defaults, kind, data, modes), **given)
    if isinstance(run, VaeRun):
        held_out_count(len(data), run.holdout_fraction)  # refuses one that leaves nothing
    return _Resolved(kind, preset, run, spec.filled_in(data), data, None)


def _fitted_to_data(run: AnyRun, kind: str, data: Dataset, label_modes: int) -> AnyRun:
    """The run with networks of the data's shape and classes, and enough steps for a small set.

    Args:
        label_modes: As in ``GanRun``: whether the classes become the modes of a GAN.

    Raises:
        DataError: a conditional GAN, but the data has a single class.
    """
    channels, size, _ = data.images.shape[1:]
    shape: dict[str, Any] = {"image_channels": channels, "image_size": size}
    if kind == "cgan":
        if len(data.class_names) < 2:
            raise DataError(
                f"the data has one class, {data.class_names[0]!r}, and a conditional GAN needs at "
                "least two: give each class a sub-folder, or train a gan"
            )
        shape["num_classes"] = len(data.class_names)
    elif kind == "gan" and label_modes:
        # One class, or more classes than z has numbers: train without labels.
        classes = len(data.class_names)
        shape["modes"] = classes if 2 <= classes < run.network.latent_dim else 0
    changes: dict[str, Any] = run.small_set(len(data))
    changes["network"] = dataclasses.replace(run.network, **shape)
    return dataclasses.replace(run, **changes)


def _results(folder: Path) -> str:
    """Where the run's results are; a short run has no samples, and may have no curves."""
    places = {"pictures": folder / "samples", "losses": folder / LOG, "curves": folder / CURVES}
    return "   ".join(f"{what}: {path}" for what, path in places.items() if path.exists())


def _train(resolved: _Resolved, arguments: argparse.Namespace, stack: ExitStack) -> None:
    """Train in this process, one of several or the only one; ``stack`` holds the folder's lock."""
    kind, run = resolved.kind, resolved.run
    hardware = pick_hardware(arguments.device, arguments.compile)
    chief = hardware.rank == 0  # writes files and messages for all processes
    folder = resolved.folder
    if chief:
        folder = folder or new_run_folder(arguments.runs, kind, resolved.preset)
        stack.enter_context(locked(folder))
        # Also when resuming: the data may have moved.
        write_config(folder, kind, resolved.preset, run, resolved.spec)
        processes = f" and {hardware.processes - 1} more" if hardware.processes > 1 else ""
        print(
            f"run {folder}: {kind}, preset {resolved.preset}, {len(resolved.data)} images, "
            f"on {hardware.device}{processes}, {torch.get_num_threads()} threads; this process may "
            f"use {usable_cores()} cores"
        )
        print(f"classes: {resolved.data.counts_text()}")
        print("\n".join(settings_as_lines(run)), flush=True)
        names = resolved.data.class_names
        if run.network.num_classes > PICTURED:
            shown = ", ".join(names[k] for k in shown_classes(len(names), PICTURED))
            print(f"columns of the pictures: {shown}", flush=True)
    rest = (folder, hardware, arguments.max_steps, arguments.tensorboard)
    try:
        if isinstance(run, VaeRun):
            train_vae(run, resolved.data, *rest)
        else:
            train_gan(run, resolved.data, *rest)
    except KeyboardInterrupt as interrupt:
        if chief:
            saved = (
                f"{interrupt.args[0]} is saved"
                if isinstance(interrupt, Stopped)
                else f"at most {run.save_every} steps are lost"
            )
            resume = f"python -m training {kind} --resume {shlex.quote(str(folder))}"
            print(f"\nstopped; {saved}. Continue with: {resume}", file=sys.stderr)
        raise SystemExit(130) from None
    if chief and folder:
        print(_results(folder))
        print(f"publish it with: python -m training publish {shlex.quote(str(folder))}")
