"""What each command does. Each function returns the exit status."""

import argparse
import sys
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias, cast, get_args

import numpy as np

from genserve import calls
from genserve.cli.cards import card_lines
from genserve.cli.exits import DIFFERENT, DONE, FAILED, UsageError
from genserve.cli.progress_bar import ProgressBar, megabytes
from genserve.cli.reading import parse_latents, read_file, read_files, read_points
from genserve.cli.writing import output_format, write_output
from genserve.client import Client
from genserve.inputs import LatentInput
from genserve.request import ImageFormat, ImagesRequest, Layout
from genserve.results import ModelList

Options: TypeAlias = argparse.Namespace

# Options of several commands, as arguments of ``genserve.calls``
_IMAGE_OPTIONS = ("model", "scale", "metadata", "timeout_ms")
_PICTURE_OPTIONS = ("invert", "center")
_COLOURS = {1: "grey", 3: "RGB", 4: "RGBA"}


def _given(options: Options, *names: str) -> dict[str, Any]:
    """The options of these names, as keyword arguments."""
    return {name: getattr(options, name) for name in names}


def _write_images(client: Client, request: ImagesRequest, options: Options) -> int:
    format = output_format(options.output, options.format, get_args(ImageFormat), "png")
    layout = cast("Layout | None", options.layout)
    file = request.file(cast(ImageFormat, format), layout=layout, frame_ms=options.frame_ms)
    write_output(options.output, client.send(file).body, format)
    return DONE


def generate(client: Client, options: Options) -> int:
    """Sample images."""
    given = _given(options, "label", "n", "seed", "seeds", "truncation", *_IMAGE_OPTIONS)
    return _write_images(client, calls.generate(**given), options)


def encode(client: Client, options: Options) -> int:
    """Pictures to latents."""
    format = output_format(options.output, options.format, ("json", "npy", "npz"), "json")
    given = _given(options, "model", "label", "seed", "timeout_ms", *_PICTURE_OPTIONS)
    request = calls.encode(*read_files(options.pictures), **given)
    if format == "json":
        write_output(options.output, client.send(request.raw()).body, format)
        return DONE
    posteriors, out = client.send(request), BytesIO()
    if format == "npy":
        np.save(out, posteriors.z)
    else:
        np.savez(out, mu=posteriors.mu, logvar=posteriors.logvar, z=posteriors.z)
    write_output(options.output, out.getvalue(), format)
    return DONE


def decode(client: Client, options: Options) -> int:
    """Latents to images."""
    z = parse_latents(read_file(options.latents), options.latents)
    return _write_images(
        client, calls.decode(z, **_given(options, "label", *_IMAGE_OPTIONS)), options
    )


def reconstruct(client: Client, options: Options) -> int:
    """Pictures to latents and back."""
    given = _given(options, "label", "show", *_IMAGE_OPTIONS, *_PICTURE_OPTIONS)
    request = calls.reconstruct(*read_files(options.pictures), **given)
    return _write_images(client, request, options)


def interpolate(client: Client, options: Options) -> int:
    """Images between points of the latent space."""
    ends = [point for text in options.ends for point in read_points(text)]
    given = _given(options, "label", "steps", "method", "truncation")
    given |= _given(options, *_IMAGE_OPTIONS, *_PICTURE_OPTIONS)
    return _write_images(client, calls.interpolate(*ends, **given), options)


def traverse(client: Client, options: Options) -> int:
    """Images along single axes of the latent space."""
    start: LatentInput | None = None
    if options.start is not None:
        start, *others = read_points(options.start)
        if others:
            raise UsageError(
                f"{options.start} holds {1 + len(others)} latents; a traversal takes one"
            )
    given = _given(options, "label", "axes", "low", "high", "steps", "truncation")
    given |= _given(options, *_IMAGE_OPTIONS, *_PICTURE_OPTIONS)
    return _write_images(client, calls.traverse(start, **given), options)


def dataset(client: Client, options: Options) -> int:
    """Many images in one file."""
    bar = ProgressBar(Path(options.output).name) if sys.stderr.isatty() else None
    given = _given(
        options, "n", "label", "model", "seed", "split", "metadata", "compress", "format"
    )
    try:
        file = client.dataset(options.output, **given, progress=bar)
    finally:
        if bar:
            bar.end()
    summary = f"{file.n} images of {file.model}, seed {file.seed}, {megabytes(file.bytes)}"
    print(f"{file.path}: {summary}", file=sys.stderr)
    return DONE


def verify(client: Client, options: Options) -> int:
    """Pictures against their recipes: a line and a verdict each."""
    verdicts = []
    for path in options.pictures:
        verification = client.verify(read_file(path), timeout_ms=options.timeout_ms)
        verdicts.append(verification["verdict"])
        print(f"{path}: {verification['verdict']}: {verification['detail']}")
    if "different" in verdicts:
        return DIFFERENT
    return DONE if set(verdicts) == {"same"} else FAILED


def models(client: Client, options: Options) -> int:
    """The models as a table or JSON, or one model's card."""
    if options.name is not None and options.json:
        write_output(options.output, client.send(calls.model(options.name).raw()).body, "json")
    elif options.name is not None:
        print("\n".join(card_lines(client.model(options.name))))
    elif options.json:
        write_output(options.output, client.send(calls.models().raw()).body, "json")
    else:
        _print_table(client.models())
    return DONE


def status(client: Client, options: Options) -> int:
    """State of the service."""
    write_output(options.output, client.send(calls.status().raw()).body, "json")
    return DONE


def serve(*_: object) -> int:
    """Reached if --url or --key stand before it.

    Raises:
        UsageError: always.
    """
    raise UsageError("serve takes no option before it; genserve serve --help lists the service's")


def import_generator(*_: object) -> int:
    """Reached as ``serve``.

    Raises:
        UsageError: always.
    """
    raise UsageError("import takes no option before it; genserve import --help lists its own")


def _print_table(models: ModelList) -> None:
    rows = [("MODEL", "KIND", "DOES", "LABELS", "IMAGE", "SEEDS", "")]
    for card in models["models"]:
        labels, (channels, height, width) = card["labels"], card["image_shape"]
        rows.append(
            (
                card["name"],
                card["kind"],
                ", ".join(card["operations"]),
                f"{labels[0]} … {labels[-1]}" if labels else "-",
                f"{width} x {height} {_COLOURS.get(channels, channels)}",
                card["reproducibility"],
                "default" if card["name"] == models["default"] else "",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    for name, reason in models["refused"].items():
        print(f"refused: {name}: {reason}")
