"""Command line: ``gan``, ``cgan``, ``vae`` train; ``publish`` releases; ``evaluate`` measures."""

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import torch

from training import distributed
from training.config import PRESETS, AnyRun, GanRun, VaeRun, described
from training.data import DataError, Dataset, default_data_root, load_mnist
from training.hardware import Hardware, HardwareError, check_devices, pick_device, pick_hardware
from training.networks.checkpoint import CheckpointError
from training.plan import plan
from training.publish import evaluate_stored, publish
from training.record import Stopped, summary_writer_class
from training.run import TrainingError, new_run_folder, next_run_folder, read_config, write_config
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


def _add_data_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-root",
        type=Path,
        default=None,
        help=f"folder that holds MNIST/raw, or gets it downloaded (default: {default_data_root()})",
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
    _add_data_root(parser)
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
    _add_data_root(publish)
    _add_device(publish)
    evaluate = subparsers.add_parser(
        "evaluate", help="measure a published checkpoint again, beside what its header states"
    )
    evaluate.add_argument("name", help="name in the store, such as mnist-cgan-v1")
    evaluate.add_argument(
        "--store", type=Path, default=Path("models_store"), help="(default: models_store)"
    )
    _add_data_root(evaluate)
    _add_device(evaluate)
    return parser


@dataclasses.dataclass(frozen=True)
class _Resolved:
    """What a training command comes to."""

    kind: str
    preset: str
    run: AnyRun
    data_root: Path
    data: Dataset
    folder: Path | None  # of the run to be continued; None = a new one


def _resolve(arguments: argparse.Namespace) -> _Resolved:
    kind = arguments.command
    fields = {field.name for field in dataclasses.fields(GanRun)}
    fields |= {field.name for field in dataclasses.fields(VaeRun)}
    chosen = {name: value for name, value in vars(arguments).items() if name in fields}

    if arguments.resume:
        folder = arguments.resume
        stored_kind, preset, run, data_root = read_config(folder)
        if stored_kind != kind:
            raise TrainingError(
                f"{folder} is a {stored_kind} run: python -m training {stored_kind}"
            )
        chosen |= {"preset": arguments.preset} if arguments.preset else {}
        if chosen:
            raise TrainingError(
                f"--resume continues with the run's own settings; leave out {', '.join(chosen)}"
            )
        data = load_mnist(arguments.data_root or data_root, train=True)
        return _Resolved(kind, preset, run, data_root, data, folder)

    preset = arguments.preset or next(iter(PRESETS[kind]))
    run = dataclasses.replace(PRESETS[kind][preset], **chosen)
    data_root = arguments.data_root or default_data_root()
    data = load_mnist(data_root, train=True)
    if kind == "cgan":
        assert isinstance(run, GanRun)
        network = dataclasses.replace(run.network, num_classes=len(data.class_names))
        run = dataclasses.replace(run, network=network)
    return _Resolved(kind, preset, run, data_root, data, None)


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
    if chief and folder is None:
        folder = new_run_folder(arguments.runs, kind, resolved.preset)
        write_config(folder, kind, resolved.preset, run, resolved.data_root)
    if chief:
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


def main(argv: list[str]) -> None:
    """Run one command; errors that a person can mend are one line on stderr and exit status 1."""
    arguments = _parser(argv).parse_args(argv)
    torch.set_num_threads(arguments.threads)
    # Adam's moments of weights that stopped moving decay into denormals, which are slow.
    torch.set_flush_denormal(True)
    try:
        if arguments.command == "publish":
            publish(
                arguments.run,
                arguments.store,
                arguments.name,
                arguments.data_root,
                pick_device(arguments.device),
                arguments.best,
            )
        elif arguments.command == "evaluate":
            path = arguments.store / f"{arguments.name}.safetensors"
            now, stated = evaluate_stored(path, arguments.data_root, pick_device(arguments.device))
            print(f"{'figure':36} {'now':>12} {'stated':>12}")
            for name, value in now.items():
                print(f"{name:36} {value:>12} {stated.get(name, '-'):>12}")
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
