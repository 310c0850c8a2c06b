"""The command line for people: ``genserve generate --label 7 --n 16 --seed 42 -o sevens.png``.

Exit status: 0 done; 1 a verified picture is different; 2 it could not be done, and standard error
says why in a line (of a picture whose model is not served, the line that tells its verdict);
130 interrupted.
"""

import argparse
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, cast, get_args

import numpy as np

from genserve import ask
from genserve.answers import ModelList
from genserve.ask import Choice, End, ImageFormat, ImagesCall, Layout, Metadata
from genserve.download import FORMATS, Progress
from genserve.errors import GenserveError
from genserve.files import write_whole
from genserve.session import DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE, Client
from genserve.version import __version__

DONE, DIFFERENT, FAILED, INTERRUPTED = 0, 1, 2, 130

Options: TypeAlias = argparse.Namespace


class UsageError(Exception):
    """The command cannot be carried out; the message is for standard error."""


def _format(options: Options, allowed: Sequence[str], default: str) -> str:
    """What to write: as --format says, else as the file is called, else the default."""
    if options.format:
        return str(options.format)
    if options.output in (None, "-"):
        return default
    form = Path(options.output).suffix.lower().removeprefix(".")
    if form not in allowed:
        known = " ".join(f".{name}" for name in allowed)
        raise UsageError(
            f"{options.output!r} does not tell a format: allowed are {known}, or --format"
        )
    return form


def _write(options: Options, body: bytes, form: str) -> None:
    """To the file, else to standard output."""
    if options.output not in (None, "-"):
        write_whole(Path(options.output), body)
        return
    out = sys.stdout
    if out is None:  # the shell's >&-
        raise UsageError("standard output is closed: -o FILE writes a file")
    if form == "json":
        indent = 2 if out.isatty() else None
        print(json.dumps(json.loads(body), indent=indent, ensure_ascii=False))
        return
    if out.isatty() and options.output is None:
        raise UsageError(f"{form} is not for a terminal: -o FILE writes it, -o - shows it anyway")
    out.buffer.write(body)
    out.buffer.flush()


def _write_images(client: Client, call: ImagesCall, options: Options) -> int:
    form = _format(options, get_args(ImageFormat), "png")
    layout = cast("Layout | None", options.layout)
    file = call.file(cast(ImageFormat, form), layout=layout, frame_ms=options.frame_ms)
    _write(options, client.send(file).body, form)
    return DONE


def _given(options: Options, *names: str) -> dict[str, Any]:
    """The options of these names, as arguments."""
    return {name: getattr(options, name) for name in names}


_OF_IMAGES = ("model", "scale", "metadata", "timeout_ms")
_OF_PICTURES = ("invert", "center")
_ARRAYS = (b"\x93NUMPY", b"PK\x03\x04")  # what npy and npz begin with


def _generate(client: Client, options: Options) -> int:
    given = _given(options, "label", "n", "seed", "seeds", "truncation", *_OF_IMAGES)
    return _write_images(client, ask.generate(**given), options)


def _encode(client: Client, options: Options) -> int:
    form = _format(options, ("json", "npy", "npz"), "json")
    given = _given(options, "model", "seed", "timeout_ms", *_OF_PICTURES)
    call = ask.encode(*_files(options.pictures), **given)
    if form == "json":
        _write(options, client.send(call.raw()).body, form)
        return DONE
    found, out = client.send(call), BytesIO()
    if form == "npy":
        np.save(out, found.z)
    else:
        np.savez(out, mu=found.mu, logvar=found.logvar, z=found.z)
    _write(options, out.getvalue(), form)
    return DONE


def _decode(client: Client, options: Options) -> int:
    z = _latents(_file(options.latents), options.latents)
    return _write_images(client, ask.decode(z, **_given(options, *_OF_IMAGES)), options)


def _reconstruct(client: Client, options: Options) -> int:
    given = _given(options, "show", *_OF_IMAGES, *_OF_PICTURES)
    return _write_images(client, ask.reconstruct(*_files(options.pictures), **given), options)


def _interpolate(client: Client, options: Options) -> int:
    ends = [end for text in options.ends for end in _ends(text)]
    given = _given(options, "label", "steps", "method", "truncation", *_OF_IMAGES, *_OF_PICTURES)
    return _write_images(client, ask.interpolate(*ends, **given), options)


def _traverse(client: Client, options: Options) -> int:
    start: End | None = None
    if options.start is not None:
        start, *others = _ends(options.start)
        if others:
            raise UsageError(
                f"{options.start} holds {1 + len(others)} latents; a traversal takes one"
            )
    given = _given(options, "label", "axes", "low", "high", "steps", "truncation")
    given |= _given(options, *_OF_IMAGES, *_OF_PICTURES)
    return _write_images(client, ask.traverse(start, **given), options)


def _dataset(client: Client, options: Options) -> int:
    bar = Bar(Path(options.output).name) if sys.stderr.isatty() else None
    given = _given(options, "n", "label", "model", "seed", "metadata", "format")
    try:
        made = client.dataset(options.output, **given, progress=bar)
    finally:
        if bar:
            bar.end()
    told = f"{made.n} images of {made.model}, seed {made.seed}, {_megabytes(made.bytes)}"
    print(f"{made.path}: {told}", file=sys.stderr)
    return DONE


def _verify(client: Client, options: Options) -> int:
    verdicts = []
    for path in options.pictures:
        found = client.verify(_file(path), timeout_ms=options.timeout_ms)
        verdicts.append(found["verdict"])
        print(f"{path}: {found['verdict']}: {found['detail']}")
    if "different" in verdicts:
        return DIFFERENT
    return DONE if set(verdicts) == {"same"} else FAILED


def _models(client: Client, options: Options) -> int:
    if options.name is not None:
        _write(options, client.send(ask.model(options.name).raw()).body, "json")
    elif options.json:
        _write(options, client.send(ask.models().raw()).body, "json")
    else:
        _show(client.models())
    return DONE


def _status(client: Client, options: Options) -> int:
    _write(options, client.send(ask.status().raw()).body, "json")
    return DONE


def _show(found: ModelList) -> None:
    """The models as a table."""
    rows = [("MODEL", "KIND", "DOES", "LABELS", "IMAGE", "SEEDS", "")]
    for card in found["models"]:
        labels, (channels, height, width) = card["labels"], card["image_shape"]
        rows.append(
            (
                card["name"],
                card["kind"],
                ", ".join(card["operations"]),
                f"{labels[0]} … {labels[-1]}" if labels else "-",
                f"{width} x {height} {'grey' if channels == 1 else 'RGB'}",
                card["reproducibility"],
                "default" if card["name"] == found["default"] else "",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    for name, reason in found["refused"].items():
        print(f"refused: {name}: {reason}")


def _file(path: str) -> bytes:
    """What a file holds; - is standard input."""
    if path != "-":
        return Path(path).read_bytes()
    if sys.stdin is None or sys.stdin.buffer.closed:
        raise UsageError("standard input is closed, or - stands in two places; it is read once")
    with sys.stdin.buffer as whole:
        return whole.read()


def _files(paths: Sequence[str]) -> list[bytes]:
    return [_file(path) for path in paths]


def _ends(text: str) -> list[End]:
    """What an end of a path is on the command line: a seed, or a file of a picture or latents."""
    if text.isascii() and text.isdecimal():
        return [int(text)]
    data = _file(text)
    if data.startswith(_ARRAYS) or data.lstrip()[:1] in (b"{", b"["):
        return list(_latents(data, text))
    return [data]


def _latents(data: bytes, path: str) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Latents (n, Z) of a file: npy, or npz or JSON as ``encode`` writes it."""
    try:
        if data.startswith(_ARRAYS):
            found = np.load(BytesIO(data), allow_pickle=False)
            if isinstance(found, np.lib.npyio.NpzFile):
                found = found["z"]
        else:
            told = json.loads(data)
            if isinstance(told, dict):
                told = told["z"] if "z" in told else [item["z"] for item in told["items"]]
            found = told
        z = np.atleast_2d(np.asarray(found, dtype=np.float32))
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path} holds no latents; allowed: npy (n, Z), npz or JSON as encode gives it, or "
            '{"z": [[…]]}'
        ) from error
    if z.ndim != 2:
        raise UsageError(f"{path} holds an array {z.shape}; latents are (n, Z)")
    return z


class Bar:
    """A line on the terminal that says how far a file is.

    Args:
        name: Of the file.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: tuple[float, int] | None = None
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        """Draw it, ten times a second at most."""
        now = time.monotonic()
        if self._first is None or progress.bytes < self._first[1]:
            self._first = now, progress.bytes
        if now < self._next:
            return
        self._next = now + 0.1
        began, had = self._first
        rate = (progress.bytes - had) / (now - began) if now > began else 0.0
        self._draw(progress, f"{_megabytes(rate)}/s" if rate else "waiting")

    def _draw(self, progress: Progress, rate: str) -> None:
        full = 24 * progress.images // max(progress.n, 1)
        told = f"{progress.images:,} of {progress.n:,}, {_megabytes(progress.bytes)}, {rate}"
        line = f"{self._name} [{'#' * full}{'.' * (24 - full)}] {told}"
        try:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
        except OSError:
            width = 80
        print(f"\r{line[: width - 1]}\x1b[K", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """What is printed next begins where the line was."""
        if self._first is not None:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


class _Parser(argparse.ArgumentParser):
    """Whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(FAILED, f"{self.prog}: {message} (--help shows what there is)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="genserve", description="Asks a Genserve service.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"genserve {__version__}")

    def service(made: _Parser, default: str | None) -> None:
        """Before the command or behind it, where no default may undo what stands before."""
        about = f"of the service; else {URL_VARIABLE}, else {DEFAULT_URL}"
        made.add_argument("--url", help=about, default=default)
        about = f"sent as a bearer token; better {KEY_VARIABLE}, which no list of processes shows"
        made.add_argument("--key", help=about, default=default)

    service(parser, None)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[Client, Options], int], about: str) -> _Parser:
        made = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        made.set_defaults(run=run, output=None)
        service(made, argparse.SUPPRESS)
        return made

    def waits(made: _Parser) -> None:
        made.add_argument("--timeout-ms", type=int, help="in which the answer is of use")

    def output(made: _Parser, formats: Sequence[str]) -> None:
        suffixes = " ".join(f".{name}" for name in formats)
        made.add_argument("-o", "--output", metavar="FILE", help=f"{suffixes}; - = standard output")
        made.add_argument("--format", choices=formats, help="if FILE does not tell")

    def images(made: _Parser) -> None:
        made.add_argument("--model", help="a name, or one pinned to its checkpoint: NAME@DIGEST")
        output(made, get_args(ImageFormat))
        made.add_argument("--layout", choices=get_args(Layout), help="of several in one picture")
        made.add_argument("--frame-ms", type=int, help="milliseconds an image of an animation")
        made.add_argument("--scale", type=int, help="each pixel as a square of so many")
        made.add_argument(
            "--metadata", choices=get_args(Metadata), help="what a picture says of itself"
        )
        waits(made)

    def fits(made: _Parser) -> None:
        for name, about in (("invert", "black on white"), ("center", "size and place")):
            made.add_argument(f"--{name}", choices=get_args(Choice), help=f"of a picture: {about}")

    def label(made: _Parser) -> None:
        made.add_argument("--label", help="a class's name, else its number")

    def seed(made: _Parser) -> None:
        made.add_argument("--seed", type=int, help="the same seed gives the same images")

    def truncation(made: _Parser) -> None:
        made.add_argument("--truncation", type=float, help="0 to 1: more usual, less varied")

    def pictures(made: _Parser, forms: str = "PNG, JPEG or WebP") -> None:
        about = f"{forms}; - = standard input"
        made.add_argument("pictures", metavar="PICTURE", nargs="+", help=about)

    made = command("generate", _generate, "sample images")
    label(made)
    made.add_argument("--n", type=int, help="images")
    seed(made)
    made.add_argument("--seeds", help="instead of --n and --seed: 0-3,17")
    truncation(made)
    images(made)

    made = command("encode", _encode, "pictures to latents: JSON, npy (z) or npz (mu, logvar, z)")
    pictures(made)
    made.add_argument("--model", help="a VAE")
    made.add_argument("--seed", type=int, help="of z, a draw; z is the mean without one")
    output(made, ("json", "npy", "npz"))
    fits(made)
    waits(made)

    made = command("decode", _decode, "latents to pictures")
    made.add_argument(
        "latents",
        nargs="?",
        default="-",
        metavar="FILE",
        help="npy, npz or JSON of encode",
    )
    images(made)

    made = command("reconstruct", _reconstruct, "what a VAE keeps of pictures")
    pictures(made)
    made.add_argument("--show", choices=("reconstruction", "beside", "error"))
    images(made)
    fits(made)

    made = command("interpolate", _interpolate, "a path between seeds, pictures or latents")
    made.add_argument("ends", metavar="END", nargs="+", help="a seed, or a picture's or npy file")
    made.add_argument("--steps", type=int, help="images in all")
    made.add_argument("--method", choices=("slerp", "lerp"))
    label(made)
    truncation(made)
    images(made)
    fits(made)

    made = command("traverse", _traverse, "what single axes of the latent space do")
    made.add_argument("start", metavar="START", nargs="?", help="a seed, or a picture or npy file")
    made.add_argument("--axes", help="such as 0-3,17")
    made.add_argument("--low", type=float, help="where each axis begins")
    made.add_argument("--high", type=float, help="where it ends")
    made.add_argument("--steps", type=int, help="images an axis")
    label(made)
    truncation(made)
    images(made)
    fits(made)

    made = command("dataset", _dataset, "any number of labelled images as one file; resumes")
    made.add_argument("-o", "--output", metavar="FILE", required=True, help=".zip or .npz")
    made.add_argument("--format", choices=FORMATS, help="if FILE does not tell")
    made.add_argument("--n", type=int, help="images")
    made.add_argument("--label", help="of all; else every class as often")
    made.add_argument("--model", help="a name, or one pinned to its checkpoint: NAME@DIGEST")
    seed(made)
    made.add_argument("--metadata", choices=get_args(Metadata))

    made = command("verify", _verify, "whether pictures are what their recipes make")
    pictures(made, "PNG or WebP")
    waits(made)

    made = command("models", _models, "what is served; a model's card")
    made.add_argument("name", nargs="?", metavar="NAME")
    made.add_argument("--json", action="store_true")

    command("status", _status, "how things stand: queue, counts, costs")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    try:
        with Client(options.url, options.key) as client:
            status = options.run(client, options)
            if sys.stdout is not None:
                sys.stdout.flush()
            return int(status)
    except KeyboardInterrupt:
        part = Path(f"{options.output}.part")
        kept = f"; {part} is kept, the same command goes on" if part.exists() else ""
        _say(f"interrupted{kept}")
        return INTERRUPTED
    except BrokenPipeError:  # who reads standard output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(f"{where}{error.strerror or error}")
    except (GenserveError, UsageError, ValueError) as error:
        _say(str(error))
    return FAILED


def _say(message: str) -> None:
    """On standard error, in one line."""
    print(f"genserve: {' '.join(message.split())}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
