"""Command line: ``gan``, ``cgan``, ``vae`` train; ``publish``, ``export``, ``evaluate``."""

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import torch

from training.config import PRESETS, AnyRun, GanRun, VaeRun
from training.data import DataError, default_data_root, load_mnist
from training.export import export_checkpoint
from training.networks.graphs import graph_path
from training.networks.header import CheckpointError, read
from training.publish import evaluate_stored, publish
from training.run import (
    TrainingError,
    new_run_folder,
    pick_device,
    read_config,
    write_config,
)
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
    return int(given) if given.isdecimal() and int(given) else os.cpu_count() or 1


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
        help="CPU threads (default: OMP_NUM_THREADS, else one a core: %(default)s)",
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
    export = subparsers.add_parser(
        "export", help="copy a published checkpoint with the graphs that ONNX Runtime serves"
    )
    export.add_argument("name", help="name in the store, such as mnist-cgan-v1")
    export.add_argument("folder", type=Path, help="folder of the copy; another than the store")
    export.add_argument(
        "--store", type=Path, default=Path("models_store"), help="(default: models_store)"
    )
    return parser


def _train(arguments: argparse.Namespace) -> None:
    kind = arguments.command
    fields = {field.name for field in dataclasses.fields(GanRun)}
    fields |= {field.name for field in dataclasses.fields(VaeRun)}
    chosen = {name: value for name, value in vars(arguments).items() if name in fields}
    device = pick_device(arguments.device)

    run: AnyRun
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
    else:
        preset = arguments.preset or next(iter(PRESETS[kind]))
        run = dataclasses.replace(PRESETS[kind][preset], **chosen)
        data_root = arguments.data_root or default_data_root()
        data = load_mnist(data_root, train=True)
        if kind == "cgan":
            assert isinstance(run, GanRun)
            network = dataclasses.replace(run.network, num_classes=len(data.class_names))
            run = dataclasses.replace(run, network=network)
        folder = new_run_folder(arguments.runs, kind, preset)
        write_config(folder, kind, preset, run, data_root)

    print(f"run {folder}: {kind}, preset {preset}, {len(data)} images, on {device}")
    print(f"  {run}")
    try:
        if isinstance(run, VaeRun):
            train_vae(run, data, folder, device, arguments.max_steps)
        else:
            train_gan(run, data, folder, device, arguments.max_steps)
    except KeyboardInterrupt:
        print(
            f"\nstopped; at most {run.save_every} steps are lost. Continue with: "
            f"python -m training {kind} --resume {folder}",
            file=sys.stderr,
        )
        raise SystemExit(130) from None
    print(f"pictures: {folder}/samples   losses: {folder}/losses.jsonl")
    print(f"publish it with: python -m training publish {folder}")


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
                arguments.data_root,
                pick_device(arguments.device),
            )
        elif arguments.command == "evaluate":
            path = arguments.store / f"{arguments.name}.safetensors"
            now, stated = evaluate_stored(path, arguments.data_root, pick_device(arguments.device))
            print(f"{'figure':36} {'now':>12} {'stated':>12}")
            for name, value in now.items():
                print(f"{name:36} {value:>12} {stated.get(name, '-'):>12}")
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
            _train(arguments)
    except (DataError, TrainingError, CheckpointError, ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
