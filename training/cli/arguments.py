"""The command line's arguments: every command, option and default."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from training.cli.importing import add_import
from training.cli.threads import default_threads
from training.data.dataset import DataSpec
from training.data.folder import DEFAULT_SIZE
from training.data.named_sets import NAMED
from training.data.sources import DEFAULT, SIZES, data_spec, default_data_root
from training.evaluation.evaluate import Effort
from training.evaluation.judge import CACHE
from training.presets import PRESETS, as_text, shape_of
from training.release.published import STORE

DESCRIPTION = (
    "gan, cgan and vae train; import takes a generator from elsewhere; publish, evaluate, "
    "export and judge work on what is trained"
)

MOST_THREADS = 1024

ABOUT = {
    "gan": "generative adversarial network: images without labels",
    "cgan": "conditional GAN: images of a label you ask for",
    "vae": "variational autoencoder: encode and decode through a latent space",
}


SHAPES = {
    "latent_dim": "numbers in a latent",
    "channels": "widths of a GAN's generator from the smallest maps to the largest, of a VAE from "
    "the image inwards; each doubles or halves the maps, so the image's side is a multiple of 2 "
    "to their number. Multiples of 16 are served fastest",
    "discriminator_channels": "widths of the discriminator from the image inwards",
}


def _positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _widths(text: str) -> tuple[int, ...]:
    """An argparse type: whole numbers of at least 1, with commas between."""
    return tuple(_positive(part) for part in text.split(","))


def _threads(text: str) -> int:
    """An argparse type: no more than torch can start."""
    if (count := _positive(text)) > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text} is over {MOST_THREADS}")
    return count


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to compute; auto = CUDA where there is a GPU, else CPU (default: auto)",
    )
    parser.add_argument(
        "--threads",
        type=_threads,
        default=default_threads(),
        help="CPU threads of a process (default: OMP_NUM_THREADS, else the cores that it may use: "
        "%(default)s)",
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


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    """How pictures are read, of commands that no run or checkpoint tells."""
    parser.add_argument(
        "--image-size",
        type=int,
        choices=SIZES,
        help="pixels a side: pictures are scaled by their shorter side and cropped to the middle "
        "square (default: 64 for the preset signs, 32 for cifar10, else 28)",
    )
    parser.add_argument(
        "--image-channels",
        choices=("auto", "1", "3"),
        help="1 = grey, 3 = RGB, auto = as the pictures are (default: auto)",
    )
    parser.add_argument(
        "--holdout-groups",
        metavar="PATTERN",
        help="hold out whole groups of a folder's pictures, such as all of a person, instead of "
        "single ones: a regular expression for the part of a picture's path, below its class "
        "folder, that names its group, such as '^[^/]+/' for a folder a person or '^[a-z]+' for "
        "anna-03.jpg",
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
    _add_pictures(parser)
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
    shape = parser.add_argument_group("shape of the networks")
    for name, value in shape_of(defaults).items():
        several = isinstance(value, tuple)
        shape.add_argument(
            f"--{name.replace('_', '-')}",
            type=_widths if several else _positive,
            metavar="N,N,..." if several else "N",
            default=argparse.SUPPRESS,
            help=f"{SHAPES[name]} (default: {as_text(value)})",
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


def parser_for(argv: list[str]) -> argparse.ArgumentParser:
    """The parser; the preset in ``argv`` decides which defaults --help shows."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", default="")
    preset = first.parse_known_args(argv)[0].preset
    parser = argparse.ArgumentParser(prog="python -m training", description=DESCRIPTION)
    subparsers = parser.add_subparsers(dest="command", required=True)
    for kind in PRESETS:
        _add_training(subparsers, kind, preset)
    add_import(subparsers)
    publish = subparsers.add_parser(
        "publish",
        help="measure a finished run and release it to models_store, with card and picture",
    )
    publish.add_argument("run", type=Path, help="run folder, such as runs/cgan-compact-001")
    publish.add_argument("--name", help="name to serve it under (default: <data>-<kind>-v1)")
    publish.add_argument(
        "--store",
        type=Path,
        default=STORE,
        help="folder to publish to (default: models_store)",
    )
    publish.add_argument(
        "--best",
        action="store_true",
        help="release the epoch that measured best (see its curves.png), not the last weights",
    )
    publish.add_argument(
        "--no-figures",
        action="store_true",
        help="release at once, without measuring; the card says so, and evaluate measures later",
    )
    publish.add_argument(
        "--float",
        action="store_true",
        help="serve it in floating point; otherwise it is quantised, and gives the same bytes on "
        "every machine",
    )
    _add_data(publish, "where the run found them")
    _add_device(publish)
    measure = subparsers.add_parser(
        "evaluate",
        help="measure published checkpoints again, beside real images and what their headers state",
        description="Figures of published checkpoints, each beside what real images score and what "
        "the header states; docs/explanation/quality.md says what they mean",
    )
    measure.add_argument("names", nargs="*", metavar="NAME", help="such as mnist-cgan-v7")
    measure.add_argument("--all", action="store_true", help="every checkpoint in the store")
    measure.add_argument(
        "--damage",
        action="store_true",
        help="instead, measure real images damaged on purpose: shows what each figure sees",
    )
    measure.add_argument(
        "--float",
        action="store_true",
        help="measure the network in floating point, where its quantised form is served",
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
    measure.add_argument("--store", type=Path, default=STORE, help="(default: models_store)")
    _add_data(measure, "the set that the checkpoint names")
    _add_device(measure)
    export = subparsers.add_parser(
        "export", help="copy a published checkpoint with the graphs that ONNX Runtime serves"
    )
    export.add_argument("name", help="name in the store, such as mnist-cgan-v7")
    export.add_argument("folder", type=Path, help="folder of the copy; another than the store")
    export.add_argument("--store", type=Path, default=STORE, help="(default: models_store)")
    export.add_argument(
        "--fit",
        action="store_true",
        help="measure how well pictures fit that a VAE was not trained on, unless its header has "
        "that table: the service's fit needs it, and this the images",
    )
    export.add_argument(
        "--portable",
        action="store_true",
        help="quantise it, so that it gives the same bytes on every machine, and measure that; "
        "needs the images",
    )
    export.add_argument("--as", dest="new_name", metavar="NAME", help="name of a portable copy")
    export.add_argument("--no-figures", action="store_true", help="do not measure a portable copy")
    _add_data(export, "the set that the checkpoint names")
    _add_device(export)
    triton = subparsers.add_parser(
        "export-triton",
        help="write a store's graphs as a model repository of NVIDIA Triton",
        description="Write the ONNX graphs of a store as a model repository of NVIDIA Triton. Its "
        "models take latents and label indices, not seeds",
    )
    triton.add_argument("folder", type=Path, help="folder of the repository; a new one")
    triton.add_argument("--store", type=Path, default=STORE, help="(default: models_store)")
    judge = subparsers.add_parser(
        "judge",
        help="train a data set's judges anew, and compare them with those in use",
        description="Train the classifiers whose features measure samples, by their fixed seeds, "
        "and say how they differ from those in use; docs/explanation/quality.md says what follows "
        "from that",
    )
    judge.add_argument(
        "--which",
        choices=("choosing", "publishing"),
        help="the judge that selects the best epoch of a run, or the one whose figures are "
        "published (default: both)",
    )
    judge.add_argument(
        "--folder",
        type=Path,
        default=CACHE,
        help="where to write it; a judge that is there already is not replaced (default: "
        "%(default)s)",
    )
    _add_data(judge, DEFAULT)
    _add_pictures(judge)
    _add_device(judge)
    return parser


def new_data_spec(
    arguments: argparse.Namespace, preset_size: int = DEFAULT_SIZE, licence: str = ""
) -> DataSpec:
    """The data of a command that no run or checkpoint tells: what ``_add_data`` and
    ``_add_pictures`` were given.

    Args:
        preset_size: Pixels a side that the preset is made for; if it is DEFAULT_SIZE, the data's
            own size counts.
        licence: Of the pictures; "" = the data's own.
    """
    return data_spec(
        DEFAULT if arguments.data is None else arguments.data,
        arguments.data_root,
        image_size=arguments.image_size or (preset_size if preset_size != DEFAULT_SIZE else 0),
        image_channels=int((arguments.image_channels or "auto").replace("auto", "0")),
        licence=licence,
        groups=arguments.holdout_groups or "",
    )
