"""What each command does with its arguments."""

import argparse
import dataclasses
import difflib
import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from training.config import AnyRun, GanRun, VaeRun, settings_as_lines
from training.data.dataset import DataError, Dataset, DataSpec
from training.data.sources import DEFAULT, data_spec, load_data, relocated
from training.evaluation.evaluate import Effort, evaluate, reference_for
from training.evaluation.judge import judge_path, load_judge, save_weights, train_judge
from training.evaluation.likelihood import check_effort
from training.evaluation.metric_docs import plain_table, rounded
from training.evaluation.metric_sensitivity import measure_damages, sensitivity_table
from training.evaluation.reference import Reference
from training.loops.dry_run import plan
from training.loops.gan import PICTURED, shown_classes, train_gan
from training.loops.heldout import held_out_count
from training.loops.vae import train_vae
from training.networks.checkpoint import load
from training.networks.files import CheckpointError
from training.networks.graphs import graph_path
from training.networks.header import read
from training.networks.vae import VAE
from training.optim import distributed
from training.optim.hardware import Hardware, check_devices, pick_device, pick_hardware
from training.presets import PRESETS
from training.release.export import export_checkpoint
from training.release.publish import check_data, data_of, publish
from training.runs.errors import TrainingError
from training.runs.interrupts import Stopped
from training.runs.reporting import summary_writer_class
from training.runs.run_folder import (
    locked,
    new_run_folder,
    next_run_folder,
    read_config,
    write_config,
)


def _fitted(run: AnyRun, kind: str, data: Dataset, label_modes: int) -> AnyRun:
    """The run with networks of the data's shape and classes, and steps enough for a small set.

    Args:
        label_modes: Whether the classes are to be the modes of a GAN, as in ``GanRun``.

    Raises:
        DataError: a conditional GAN is to learn from a single class.
    """
    channels, size, _ = data.images.shape[1:]
    shape: dict[str, Any] = {"image_channels": channels, "image_size": size}
    if kind == "cgan":
        if len(data.class_names) < 2:
            raise DataError(
                f"the data has one class, {data.class_names[0]!r}, and a conditional GAN draws one "
                "of several: give each class a sub-folder, or train a gan"
            )
        shape["num_classes"] = len(data.class_names)
    elif kind == "gan" and label_modes:
        # Images without classes, or with more than z has numbers for, are learnt without labels.
        classes = len(data.class_names)
        shape["modes"] = classes if 2 <= classes < run.network.latent_dim else 0
    changes: dict[str, Any] = run.small_set(len(data))
    changes["network"] = dataclasses.replace(run.network, **shape)
    return dataclasses.replace(run, **changes)


@dataclasses.dataclass(frozen=True)
class _Resolved:
    """What a training command comes to."""

    kind: str
    preset: str
    run: AnyRun
    spec: DataSpec
    data: Dataset
    folder: Path | None  # of the run to be continued; None = a new one


def _resolve(arguments: argparse.Namespace) -> _Resolved:
    """Settings and data of a training command: of the run to be continued, or of a new one."""
    kind = arguments.command
    fields = {field.name for field in dataclasses.fields(GanRun)}
    fields |= {field.name for field in dataclasses.fields(VaeRun)}
    chosen = {name: value for name, value in vars(arguments).items() if name in fields}

    if arguments.resume:
        folder = arguments.resume
        stored_kind, preset, run, stored = read_config(folder)
        if stored_kind != kind:
            raise TrainingError(
                f"{folder} is a {stored_kind} run: python -m training {stored_kind}"
            )
        fixed = ("preset", "image_size", "image_channels", "data_licence")
        chosen |= {name: True for name in fixed if getattr(arguments, name) is not None}
        if chosen:
            raise TrainingError(
                f"--resume continues with the run's own settings; leave out {', '.join(chosen)}"
            )
        spec = relocated(stored, arguments.data, arguments.data_root)
        data, _ = load_data(spec)
        return _Resolved(kind, preset, run, spec, data, folder)

    preset = arguments.preset or next(iter(PRESETS[kind]))
    usual = PRESETS[kind][preset]
    asked = dataclasses.replace(usual, **chosen)  # refuses bad settings before images are read
    spec = _spec_of(
        arguments,
        image_size=arguments.image_size or 0,
        image_channels=int((arguments.image_channels or "auto").replace("auto", "0")),
        licence=arguments.data_licence or "",
    )
    data, _ = load_data(spec)
    modes = asked.label_modes if isinstance(asked, GanRun) else 0
    run = dataclasses.replace(_fitted(usual, kind, data, modes), **chosen)
    if isinstance(run, VaeRun):
        held_out_count(len(data), run.holdout_fraction)  # refuses one that leaves nothing
    return _Resolved(kind, preset, run, spec.filled_in(data), data, None)


def train(arguments: argparse.Namespace, argv: list[str]) -> None:
    """``gan``, ``cgan`` and ``vae``.

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
        where = resolved.folder or next_run_folder(arguments.runs, kind, resolved.preset)
        hardware = pick_hardware(arguments.device, arguments.compile)
        print(plan(kind, resolved.preset, run, resolved.data, hardware, where))
        return
    if arguments.devices > 1 and not distributed.is_worker():
        if resolved.folder:
            with locked(resolved.folder):  # the first of them locks it; said before all are started
                pass
        raise SystemExit(distributed.launch(arguments.devices, argv))

    with ExitStack() as kept:
        _train(resolved, arguments, kept)


def _train(resolved: _Resolved, arguments: argparse.Namespace, kept: ExitStack) -> None:
    """One process's part; ``kept`` is left at the end."""
    kind, run = resolved.kind, resolved.run
    hardware = pick_hardware(arguments.device, arguments.compile)
    chief = hardware.rank == 0  # writes and speaks for all
    folder = resolved.folder
    if chief:
        folder = folder or new_run_folder(arguments.runs, kind, resolved.preset)
        kept.enter_context(locked(folder))
        # Of a continued run too: its data may have moved.
        write_config(folder, kind, resolved.preset, run, resolved.spec)
        processes = f" and {hardware.processes - 1} more" if hardware.processes > 1 else ""
        print(
            f"run {folder}: {kind}, preset {resolved.preset}, {len(resolved.data)} images, "
            f"on {hardware.device}{processes}"
        )
        print(f"classes: {resolved.data.counts_text()}")
        print("\n".join(settings_as_lines(run)), flush=True)
        names = resolved.data.class_names
        if run.network.num_classes > PICTURED:
            shown = ", ".join(names[k] for k in shown_classes(len(names), PICTURED))
            print(f"pictures show, by column: {shown}", flush=True)
    rest = (folder, hardware, arguments.max_steps, arguments.tensorboard)
    try:
        if isinstance(run, VaeRun):
            train_vae(run, resolved.data, *rest)
        else:
            train_gan(run, resolved.data, *rest)
    except KeyboardInterrupt as interrupt:
        if chief:
            lost = (
                f"{interrupt.args[0]} is saved"
                if isinstance(interrupt, Stopped)
                else f"at most {run.save_every} steps are lost"
            )
            again = f"python -m training {kind} --resume {shlex.quote(str(folder))}"
            print(f"\nstopped; {lost}. Continue with: {again}", file=sys.stderr)
        raise SystemExit(130) from None
    if chief:
        print(f"pictures: {folder}/samples   losses: {folder}/losses.jsonl, {folder}/curves.png")
        print(f"publish it with: python -m training publish {shlex.quote(str(folder))}")


def _check_published(store: Path, names: Sequence[str]) -> list[str]:
    """All that a store holds, if the names are among it.

    Raises:
        TrainingError: one is not, or the store is empty.
    """
    known = sorted(path.stem for path in store.glob("*.safetensors"))
    if not known:
        raise TrainingError(
            f"{store} holds no checkpoints (*.safetensors): publish a run, or name another --store"
        )
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise TrainingError(
                f"{store} has no checkpoint {name!r}; it has {', '.join(known)}"
                f"{f'. Did you mean {near[0]}?' if near else ''}"
            )
    return known


def measure(arguments: argparse.Namespace) -> None:
    """``evaluate``."""
    names = list(arguments.names)
    if bool(names or arguments.all) == arguments.damage:
        raise TrainingError("name checkpoints of the store, or --all of them, or --damage alone")
    if not arguments.damage:
        known = _check_published(arguments.store, names)
        names = known if arguments.all else names
    device = pick_device(arguments.device)
    effort = Effort(nll_samples=arguments.nll_samples, nll_images=arguments.nll_images)
    if arguments.quick:
        effort = dataclasses.replace(effort, cas_images=0, nll_samples=0)
    if arguments.json:
        arguments.json.open("a").close()  # what cannot be written is met before minutes of work
    if arguments.damage:
        spec = _spec_of(arguments)
        reference = reference_for(*load_data(spec), device, effort)
        found = measure_damages(reference.judge, reference.train, reference.test, effort)
        print(sensitivity_table(found))
        _write_json(arguments.json, found)
        return
    # All are read and compared with their data before the first is measured, for the same reason.
    sets: dict[DataSpec, tuple[Dataset, Dataset]] = {}
    loaded, left = {}, []
    for name in names:
        path = arguments.store / f"{name}.safetensors"
        try:
            network, description = load(path)
            spec = data_of(path, description, arguments.data, arguments.data_root)
            if spec not in sets:
                sets[spec] = load_data(spec)
            check_data(path, description, sets[spec][0])
            if isinstance(network, VAE) and effort.nll_samples:
                check_effort(effort.nll_samples, effort.nll_images, len(sets[spec][1]))
        except (DataError, CheckpointError) as error:
            if not arguments.all:
                raise
            left.append(f"{name}: {error}")
            continue
        loaded[name] = network, description, spec
    references: dict[DataSpec, Reference] = {}  # several checkpoints of one set share it
    found = {}
    for name, (network, description, spec) in loaded.items():
        if spec not in references:
            references[spec] = reference_for(*sets[spec], device, effort)
        found[name] = evaluate(network.to(device), references[spec], effort)
        print(f"\n{name}\n{plain_table(found[name], description.metrics)}", flush=True)
        _write_json(arguments.json, found)
    _write_json(arguments.json, found)
    if left:
        raise TrainingError("not measured: " + "; ".join(left))


def _write_json(path: Path | None, found: dict[str, Any]) -> None:
    if path:
        path.write_text(json.dumps(found, indent=2) + "\n")


def _spec_of(arguments: argparse.Namespace, **wanted: Any) -> DataSpec:
    """The data that ``--data`` names, else the default set."""
    source = DEFAULT if arguments.data is None else arguments.data
    return data_spec(source, arguments.data_root, **wanted)


def release(arguments: argparse.Namespace) -> None:
    """``publish``."""
    publish(
        arguments.run,
        arguments.store,
        arguments.name,
        arguments.data,
        arguments.data_root,
        pick_device(arguments.device),
        arguments.best,
        measured=not arguments.no_figures,
    )


def export(arguments: argparse.Namespace) -> None:
    """``export``."""
    _check_published(arguments.store, [arguments.name])
    copied = export_checkpoint(arguments.store / f"{arguments.name}.safetensors", arguments.folder)
    for operation, graph in read(copied).description.graphs.items():
        print(
            f"{graph_path(copied, operation)}: differs from torch by {graph.max_difference:.1e} at "
            f"most, in {graph.differing_pixels:.1e} of the 8-bit pixels, over {graph.samples} "
            "samples"
        )


def judge(arguments: argparse.Namespace) -> None:
    """``judge``: train one by the fixed seeds, and say how it differs from the one in use."""
    device = pick_device(arguments.device)
    loaded = load_data(_spec_of(arguments))
    train, test = (part.to(device) for part in loaded)
    in_use = judge_path(train)
    path = arguments.folder / in_use.name
    if path.exists():
        raise TrainingError(f"{path} is there already; name another --folder, or take it away")
    print(f"training the judge on {len(train)} images", flush=True)
    save_weights(train_judge(train, device), path)
    found = {path: Reference(load_judge(path, train, device), train, test)}
    if in_use.exists() and in_use != path:
        found[in_use] = Reference(load_judge(in_use, train, device), train, test)
    for place, reference in found.items():
        figures = rounded(reference.judge_figures | reference.floors)
        print(f"{place}: {', '.join(f'{name} {value}' for name, value in figures.items())}")
    if len(found) == 2:
        one, other = (reference.judged_test for reference in found.values())
        if torch.equal(one.features, other.features):
            print("they are the same: figures of the two compare")
        else:
            share = float((one.classes == other.classes).double().mean())
            print(
                f"they differ, though they name {share:.2%} of the test images alike: figures of "
                "the two do not compare"
            )
