"""Command line: ``gan``, ``cgan``, ``vae`` train; ``publish``, ``export``, ``evaluate``."""

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from training import distributed
from training.config import PRESETS, AnyRun, GanRun, VaeRun, described
from training.damage import damage_table, figures_of_damage
from training.data import DataError, Dataset, DataSpec
from training.evaluate import Effort, evaluate
from training.export import export_checkpoint
from training.figures import plain_table
from training.hardware import Hardware, HardwareError, check_devices, pick_device, pick_hardware
from training.networks.checkpoint import load
from training.networks.graphs import graph_path
from training.networks.header import CheckpointError, read
from training.plan import plan
from training.publish import check_data, data_of, publish, reference_for
from training.record import Stopped, summary_writer_class
from training.reference import Reference
from training.run import TrainingError, new_run_folder, next_run_folder, read_config, write_config
from training.sources import DEFAULT, NAMED, SIZES, data_spec, default_data_root, moved
from training.sources import load as load_data
from training.train_gan import train_gan
from training.train_vae import train_vae

ABOUT = {
    "gan": "generative adversarial network: images without labels",
    "cgan": "conditional GAN: images of a label you ask for",
    "vae": "variational autoencoder: encode and decode through a latent space",
}


def _positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _default_threads() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # OpenMP allows one a level
    if given.isdecimal() and int(given):
        return int(given)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes that share this machine
    return max(1, (os.cpu_count() or 1) // here)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to compute; auto = CUDA where there is a GPU, else CPU (default: auto)",
    )
    parser.add_argument(
        "--threads",
        type=_positive,
        default=_default_threads(),
        help="CPU threads of a process (default: OMP_NUM_THREADS, else one a core: %(default)s)",
    )


def _add_data(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--data",
        metavar="NAME_OR_FOLDER",
        help=f"{', '.join(NAMED)}; or a folder of pictures with a sub-folder for each class, or "
        f"with none for gan and vae (default: {default})",
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        help="folder in which the sets known by name live, or get downloaded to, such as MNIST/raw "
        f"(default: {default_data_root()})",
    )


def _add_training(subparsers: Any, kind: str, preset: str) -> None:
    defaults = PRESETS[kind].get(preset) or next(iter(PRESETS[kind].values()))
    parser = subparsers.add_parser(kind, help=f"train a {ABOUT[kind]}", description=ABOUT[kind])
    parser.add_argument(
        "--preset",
        choices=PRESETS[kind],
        help="architecture and settings; the defaults below are this preset's (default: "
        f"{next(iter(PRESETS[kind]))})",
    )
    _add_data(parser, DEFAULT)
    parser.add_argument(
        "--image-size",
        type=int,
        choices=SIZES,
        help="pixels a side: pictures are scaled by their shorter side and cropped to the middle "
        "square (default: 32 for cifar10, else 28)",
    )
    parser.add_argument(
        "--image-channels",
        choices=("auto", "1", "3"),
        help="1 = grey, 3 = RGB, auto = as the pictures are (default: auto)",
    )
    parser.add_argument(
        "--data-licence",
        metavar="TEXT",
        help="licence of the pictures, for the card (default: unknown, or the named set's own)",
    )
    _add_device(parser)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="parent of run folders (default: runs)"
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="continue the run in this folder, with its own settings",
    )
    parser.add_argument(
        "--max-steps",
        type=_positive,
        help="stop, with the state saved, after this many steps in all",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show what the run would do, time a few steps, and write nothing",
    )
    parser.add_argument(
        "--devices",
        type=_positive,
        default=1,
        help="processes on this machine that share each batch, one a GPU; the result is that of "
        "one, up to rounding (default: 1). Over several machines: torchrun -m training ...",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile the networks: for GPUs and long runs; on a CPU it needs a C++ "
        "compiler, and cost more than it saved where it was tried",
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write event files into the run folder too; needs the package tensorboard",
    )
    settings = parser.add_argument_group("run settings")
    for field in dataclasses.fields(defaults):
        if "help" in field.metadata:
            value = getattr(defaults, field.name)
            settings.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=type(value),
                default=argparse.SUPPRESS,
                help=f"{field.metadata['help'].replace('%', '%%')} (default: {value})",
            )


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    """The parser; the preset in ``argv`` decides which defaults --help shows."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", default="")
    preset = first.parse_known_args(argv)[0].preset
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True)
    for kind in PRESETS:
        _add_training(subparsers, kind, preset)
    publish = subparsers.add_parser(
        "publish",
        help="measure a finished run and release it to models_store, with card and picture",
    )
    publish.add_argument("run", type=Path, help="run folder, such as runs/cgan-compact-001")
    publish.add_argument("--name", help="name to serve it under (default: <data>-<kind>-v1)")
    publish.add_argument(
        "--store",
        type=Path,
        default=Path("models_store"),
        help="folder to publish to (default: models_store)",
    )
    publish.add_argument(
        "--best",
        action="store_true",
        help="release the epoch that measured best (see its curves.png), not the last weights",
    )
    _add_data(publish, "where the run found them")
    _add_device(publish)
    measure = subparsers.add_parser(
        "evaluate",
        help="measure published checkpoints again, beside real images and what their headers state",
        description="Figures of published checkpoints, each beside what real images score and what "
        "the header states; docs/quality.md says what they mean",
    )
    measure.add_argument("names", nargs="*", metavar="NAME", help="such as mnist-cgan-v3")
    measure.add_argument("--all", action="store_true", help="every checkpoint in the store")
    measure.add_argument(
        "--damage",
        action="store_true",
        help="instead, measure real images damaged on purpose: shows what each figure sees",
    )
    measure.add_argument("--quick", action="store_true", help="leave out CAS and likelihood")
    measure.add_argument(
        "--nll-samples",
        type=_positive,
        default=Effort.nll_samples,
        help="draws of z for each image's likelihood (default: %(default)s)",
    )
    measure.add_argument(
        "--nll-images",
        type=_positive,
        default=Effort.nll_images,
        help="test images that get so many draws; the others count as their ELBO plus the mean "
        "gap (default: %(default)s)",
    )
    measure.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    measure.add_argument(
        "--store", type=Path, default=Path("models_store"), help="(default: models_store)"
    )
    _add_data(measure, "the set that the checkpoint names")
    _add_device(measure)
    export = subparsers.add_parser(
        "export", help="copy a published checkpoint with the graphs that ONNX Runtime serves"
    )
    export.add_argument("name", help="name in the store, such as mnist-cgan-v3")
    export.add_argument("folder", type=Path, help="folder of the copy; another than the store")
    export.add_argument(
        "--store", type=Path, default=Path("models_store"), help="(default: models_store)"
    )
    return parser


def _fitted(run: AnyRun, kind: str, data: Dataset) -> AnyRun:
    """The run with networks of the data's shape and classes, and steps enough for a small set.

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
        spec = moved(stored, arguments.data, arguments.data_root)
        data, _ = load_data(spec)
        return _Resolved(kind, preset, run, spec, data, folder)

    preset = arguments.preset or next(iter(PRESETS[kind]))
    usual = PRESETS[kind][preset]
    dataclasses.replace(usual, **chosen)  # refuses bad settings before images are read
    spec = data_spec(
        arguments.data or DEFAULT,
        arguments.data_root,
        image_size=arguments.image_size or 0,
        image_channels=int((arguments.image_channels or "auto").replace("auto", "0")),
        licence=arguments.data_licence or "",
    )
    data, _ = load_data(spec)
    run = dataclasses.replace(_fitted(usual, kind, data), **chosen)
    return _Resolved(kind, preset, run, spec.filled_in(data), data, None)


def _train(arguments: argparse.Namespace, argv: list[str]) -> None:
    # The cheapest checks first, and all before anything is written.
    check_devices(arguments.device, arguments.devices)
    if arguments.tensorboard:
        summary_writer_class()
    resolved = _resolve(arguments)
    kind, run = resolved.kind, resolved.run
    if arguments.dry_run:
        where = resolved.folder or next_run_folder(arguments.runs, kind, resolved.preset)
        hardware = pick_hardware(arguments.device, arguments.compile)
        print(plan(kind, resolved.preset, run, resolved.data, hardware, where))
        return
    if arguments.devices > 1 and not distributed.is_worker():
        Hardware(processes=arguments.devices).rows(min(run.batch_size, len(resolved.data)))
        raise SystemExit(distributed.launch(arguments.devices, argv))

    hardware = pick_hardware(arguments.device, arguments.compile)
    chief = hardware.rank == 0  # writes and speaks for all
    folder = resolved.folder
    if chief:
        folder = folder or new_run_folder(arguments.runs, kind, resolved.preset)
        # Of a continued run too: its data may have moved.
        write_config(folder, kind, resolved.preset, run, resolved.spec)
        processes = f" and {hardware.processes - 1} more" if hardware.processes > 1 else ""
        print(
            f"run {folder}: {kind}, preset {resolved.preset}, {len(resolved.data)} images, "
            f"on {hardware.device}{processes}"
        )
        print("\n".join(described(run)), flush=True)
    rest = (folder, hardware, arguments.max_steps, arguments.tensorboard)
    try:
        if isinstance(run, VaeRun):
            train_vae(run, resolved.data, *rest)
        else:
            train_gan(run, resolved.data, *rest)
    except KeyboardInterrupt as interrupt:
        if chief:
            lost = (
                f"step {interrupt.args[0]} is saved"
                if isinstance(interrupt, Stopped)
                else f"at most {run.save_every} steps are lost"
            )
            print(
                f"\nstopped; {lost}. Continue with: python -m training {kind} --resume {folder}",
                file=sys.stderr,
            )
        raise SystemExit(130) from None
    if chief:
        print(f"pictures: {folder}/samples   losses: {folder}/losses.jsonl, {folder}/curves.png")
        print(f"publish it with: python -m training publish {folder}")


def _evaluate(arguments: argparse.Namespace) -> None:
    names = list(arguments.names)
    if arguments.all:
        names += sorted(path.stem for path in arguments.store.glob("*.safetensors"))
    if bool(names) == arguments.damage:
        raise TrainingError("name checkpoints of the store, or --all of them, or --damage alone")
    # Read them all before the first is measured: a wrong name would be met after minutes.
    loaded = {name: load(arguments.store / f"{name}.safetensors") for name in names}
    device = pick_device(arguments.device)
    effort = Effort(nll_samples=arguments.nll_samples, nll_images=arguments.nll_images)
    if arguments.quick:
        effort = dataclasses.replace(effort, cas_images=0, nll_samples=0)
    found = {}
    if arguments.damage:
        spec = data_spec(arguments.data or DEFAULT, arguments.data_root)
        reference = reference_for(*load_data(spec), device, effort)
        found = figures_of_damage(reference.judge, reference.train, reference.test, effort)
        print(damage_table(found))
    references: dict[DataSpec, Reference] = {}  # several checkpoints of one set share it
    for name, (network, description) in loaded.items():
        path = arguments.store / f"{name}.safetensors"
        spec = data_of(path, description, arguments.data, arguments.data_root)
        if spec not in references:
            references[spec] = reference_for(*load_data(spec), device, effort)
        reference = references[spec]
        check_data(path, description, reference.train)
        found[name] = evaluate(network.to(device), reference, effort)
        print(f"\n{name}\n{plain_table(found[name], description.metrics)}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


def main(argv: list[str]) -> None:
    """Run one command; errors that a person can mend are one line on stderr and exit status 1."""
    arguments = _parser(argv).parse_args(argv)
    torch.set_num_threads(getattr(arguments, "threads", 1))
    # Adam's moments of weights that stopped moving decay into denormals, which are slow.
    torch.set_flush_denormal(True)
    try:
        if arguments.command == "publish":
            publish(
                arguments.run,
                arguments.store,
                arguments.name,
                arguments.data,
                arguments.data_root,
                pick_device(arguments.device),
                arguments.best,
            )
        elif arguments.command == "evaluate":
            _evaluate(arguments)
        elif arguments.command == "export":
            copied = export_checkpoint(
                arguments.store / f"{arguments.name}.safetensors", arguments.folder
            )
            for operation, graph in read(copied).description.graphs.items():
                print(
                    f"{graph_path(copied, operation)}: differs from torch by "
                    f"{graph.max_difference:.1e} at most, in {graph.differing_pixels:.1e} of the "
                    f"8-bit pixels, over {graph.samples} samples"
                )
        else:
            _train(arguments, argv)
    except (
        *(DataError, TrainingError, HardwareError, CheckpointError, ValueError, OSError),
    ) as error:
        raise SystemExit(f"error: {error}") from error
    finally:
        distributed.leave()


if __name__ == "__main__":
    main(sys.argv[1:])
