"""Options of the command line."""

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn, get_args

from genserve.calls import Adjustment, Metadata
from genserve.cli import commands
from genserve.cli.commands import Options
from genserve.cli.completion import SHELLS, completion_script
from genserve.cli.exits import DONE, FAILED
from genserve.client import Client
from genserve.connection import DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE
from genserve.download import DATASET_FORMATS, SPLITS
from genserve.request import ImageFormat, Layout
from genserve.version import __version__


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit."""
        self.exit(FAILED, f"{self.prog}: {message} (--help lists what is allowed)\n")


def _add_service(parser: Parser, default: str | None) -> None:
    """--url and --key. They may stand before the command and after it, so the command's own must
    have no default that would undo what stands before."""
    text = f"address of the service; else {URL_VARIABLE}, else {DEFAULT_URL}"
    parser.add_argument("--url", help=text, default=default)
    text = f"API key; better in {KEY_VARIABLE}, which does not show in the list of processes"
    parser.add_argument("--key", help=text, default=default)


def _add_timeout(parser: Parser) -> None:
    parser.add_argument(
        "--timeout-ms", type=int, help="deadline in milliseconds (default: the service's limit)"
    )


def _add_output(parser: Parser, formats: Sequence[str]) -> None:
    suffixes = " ".join(f".{name}" for name in formats)
    parser.add_argument("-o", "--output", metavar="FILE", help=f"{suffixes}; - = standard output")
    parser.add_argument("--format", choices=formats, help="if FILE does not say")


def _add_images(parser: Parser) -> None:
    """Options of every command that writes images."""
    parser.add_argument(
        "--model",
        help="a name, or one pinned to its checkpoint: NAME@DIGEST (default: the service's)",
    )
    _add_output(parser, get_args(ImageFormat))
    parser.add_argument(
        "--layout", choices=get_args(Layout), help="of several images in a picture (default: grid)"
    )
    parser.add_argument(
        "--frame-ms", type=int, help="milliseconds per image of an animation (default: 100)"
    )
    parser.add_argument(
        "--scale", type=int, help="side in pixels of each pixel of the model (default: 1)"
    )
    parser.add_argument(
        "--metadata",
        choices=get_args(Metadata),
        help="what the file says about its origin (default: full)",
    )
    _add_timeout(parser)


def _add_pictures(parser: Parser, forms: str = "PNG, JPEG or WebP") -> None:
    text = f"{forms}; - = standard input"
    parser.add_argument("pictures", metavar="PICTURE", nargs="+", help=text)


def _add_adjustments(parser: Parser) -> None:
    """How pictures are fitted to the model."""
    for name, text in (("invert", "black on white"), ("center", "size and place")):
        parser.add_argument(
            f"--{name}", choices=get_args(Adjustment), help=f"of a picture: {text} (default: auto)"
        )


_OF_PICTURES = "of a conditional VAE alone"


def _add_label(parser: Parser, default: str = "default: any") -> None:
    parser.add_argument("--label", help=f"a class's name, else its number ({default})")


def _add_seed(parser: Parser) -> None:
    parser.add_argument(
        "--seed", type=int, help="the same seed gives the same images (default: drawn)"
    )


def _add_truncation(parser: Parser) -> None:
    parser.add_argument(
        "--truncation", type=float, help="0 to 1: lower is more typical (default: 1)"
    )


# What to type, command by command.
EXAMPLES = {
    "generate": (
        "genserve generate --label 7 -o seven.png",
        "genserve generate --n 16 --seed 42 --scale 4 -o sheet.png",
        "genserve generate --seeds 0-3,17 --layout animation -o loop.webp",
    ),
    "encode": (
        "genserve encode photo.jpg",
        "genserve encode --seed 3 -o latents.npz a.png b.png",
    ),
    "decode": ("genserve decode latents.npz -o pictures.png",),
    "reconstruct": ("genserve reconstruct --show beside --scale 4 -o kept.png photo.jpg",),
    "interpolate": ("genserve interpolate 3 17 --label 7 --steps 12 -o path.png",),
    "traverse": ("genserve traverse photo.jpg --axes 0-3 -o axes.png",),
    "dataset": ("genserve dataset --n 10000 --seed 0 --split train -o digits.zip",),
    "verify": ("genserve verify seven.png",),
    "models": ("genserve models", "genserve models mnist-cgan-v7", "genserve models --json"),
    "status": ("genserve status --url 127.0.0.1:8400",),
}


def _examples(command: str) -> str:
    return "examples:\n" + "\n".join(f"  {line}" for line in EXAMPLES[command])


def build_parser() -> Parser:
    """The parser. Its result has the function of ``genserve.cli.commands`` as ``run``."""
    parser = Parser(
        prog="genserve", description="Client of a Genserve service.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"genserve {__version__}")
    _add_service(parser, None)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[Client, Options], int], text: str) -> Parser:
        added = subparsers.add_parser(
            name,
            help=text,
            description=text,
            allow_abbrev=False,
            epilog=_examples(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run, output=None)
        _add_service(added, argparse.SUPPRESS)
        return added

    sub = command("generate", commands.generate, "sample images")
    _add_label(sub)
    sub.add_argument("--n", type=int, help="images (default: 1)")
    _add_seed(sub)
    sub.add_argument("--seeds", help="instead of --n and --seed: 0-3,17")
    _add_truncation(sub)
    _add_images(sub)

    text = "pictures to latents: JSON, npy (z) or npz (mu, logvar, z)"
    sub = command("encode", commands.encode, text)
    _add_pictures(sub)
    sub.add_argument("--model", help="a VAE")
    _add_label(sub, _OF_PICTURES)
    sub.add_argument("--seed", type=int, help="of z, a sample; without one z is the mean")
    _add_output(sub, ("json", "npy", "npz"))
    _add_adjustments(sub)
    _add_timeout(sub)

    sub = command("decode", commands.decode, "latents to pictures")
    text = "npy, npz or JSON as encode writes it"
    sub.add_argument("latents", nargs="?", default="-", metavar="FILE", help=text)
    _add_label(sub, _OF_PICTURES)
    _add_images(sub)

    sub = command("reconstruct", commands.reconstruct, "pictures to latents and back")
    _add_pictures(sub)
    _add_label(sub, _OF_PICTURES)
    sub.add_argument(
        "--show", choices=("reconstruction", "beside", "error"), help="(default: reconstruction)"
    )
    _add_images(sub)
    _add_adjustments(sub)

    sub = command("interpolate", commands.interpolate, "images between seeds, pictures or latents")
    text = "a seed, or a file with a picture or latents"
    sub.add_argument("ends", metavar="END", nargs="+", help=text)
    sub.add_argument("--steps", type=int, help="images in all (default: 16)")
    sub.add_argument("--method", choices=("slerp", "lerp"), help="(default: slerp)")
    _add_label(sub)
    _add_truncation(sub)
    _add_images(sub)
    _add_adjustments(sub)

    sub = command("traverse", commands.traverse, "vary one axis of the latent space at a time")
    sub.add_argument("start", metavar="START", nargs="?", help=text)
    sub.add_argument("--axes", help="such as 0-3,17 (default: the eight that change most)")
    sub.add_argument("--low", type=float, help="first value on each axis (default: -3)")
    sub.add_argument("--high", type=float, help="last value on each axis (default: 3)")
    sub.add_argument("--steps", type=int, help="images per axis (default: 7)")
    _add_label(sub)
    _add_truncation(sub)
    _add_images(sub)
    _add_adjustments(sub)

    sub = command("dataset", commands.dataset, "many labelled images as one file; resumes")
    sub.add_argument("-o", "--output", metavar="FILE", required=True, help=".zip or .npz")
    sub.add_argument("--format", choices=DATASET_FORMATS, help="if FILE does not say")
    sub.add_argument("--n", type=int, help="images")
    sub.add_argument("--label", help="class of all images; else every class equally often")
    sub.add_argument("--model", help="a name, or one pinned to its checkpoint: NAME@DIGEST")
    _add_seed(sub)
    sub.add_argument("--split", choices=SPLITS, help="a part of the seed's images; none is in two")
    sub.add_argument("--metadata", choices=get_args(Metadata))
    sub.add_argument("--compress", action="store_true", help="fewer bytes; FILE is deflated")

    sub = command("verify", commands.verify, "check pictures against their recipes")
    _add_pictures(sub, "PNG or WebP")
    _add_timeout(sub)

    sub = command("models", commands.models, "list the models; show a model's card")
    sub.add_argument("name", nargs="?", metavar="NAME")
    sub.add_argument("--json", action="store_true")

    command("status", commands.status, "state of the service: queue, counters, costs")

    text = "print completion of commands and options for a shell"
    sub = subparsers.add_parser(
        "completion",
        help=text,
        description=f'{text}: eval "$(genserve completion bash)" in ~/.bashrc',
    )
    sub.add_argument("shell", choices=SHELLS)

    def complete(_client: Client, options: Options) -> int:
        print(completion_script(parser, subparsers.choices, options.shell), end="")
        return DONE

    sub.set_defaults(run=complete, output=None)

    # Listed here; ``genserve.__main__`` runs it, because its options are the service's.
    text = "start the service, if it is installed here; the options are the service's"
    sub = subparsers.add_parser("serve", help=text, add_help=False)
    sub.set_defaults(run=commands.serve, output=None)
    text = "make a checkpoint of an ONNX file or a torch module, if training is installed here"
    sub = subparsers.add_parser("import", help=text, add_help=False)
    sub.set_defaults(run=commands.import_generator, output=None)
    return parser
