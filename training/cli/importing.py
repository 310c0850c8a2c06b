"""``import``: its arguments, and what it does."""

import argparse
import ast
import dataclasses
import shlex
from pathlib import Path
from typing import Any

from training.importing.errors import GeneratorError
from training.importing.options import FITS, Options, parse_noise
from training.networks.graph.config import LABEL_FORMS, LAYOUTS, MAX_CLASSES, RANGES
from training.release.published import STORE

ABOUT = (
    "Make a checkpoint of a generator from elsewhere, so that the service can serve it. SOURCE is "
    "an ONNX file, or a torch module: package.module:Name, or file.py:Name, of which only what "
    "Name needs is run. A module is the user's own code, and runs here, once."
)


def add_import(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "import", help="make a checkpoint of an ONNX file or a torch module", description=ABOUT
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="generator.onnx, package.module:Name or file.py:Name")
    add("--name", required=True, help="name to serve it under")
    add("--store", type=Path, default=STORE, help="folder of checkpoints (default: models_store)")
    add("--replace", action="store_true", help="a checkpoint of this name")
    add("--weights", type=Path, help="of a module: .safetensors, or what torch.save wrote of them")
    add("--key", help="of the weights in a file that holds several networks")
    add("--arg", action="append", default=[], metavar="NAME=VALUE", help="argument of the module")
    add("--argv", default="", help="command line of a script whose settings come from one")
    add("--method", default="forward", help="of a module, that makes images (default: forward)")
    add("--encode", help="of a module, the method that makes latents of images")
    add("--encoder", type=Path, help="ONNX file that makes latents of images")
    add(
        "--latent",
        action="append",
        default=[],
        metavar="[NAME=]SHAPE[:DISTRIBUTION]",
        help="noise input, such as 100 or 4x8x8:uniform; once for each, in order (needed for a "
        "module; default: as the graph has it, normal)",
    )
    add("--image", metavar="CxHxW", help="shape of an image, where it is returned as one row")
    add("--range", choices=RANGES, help="numbers of black and full intensity (default: observed)")
    add("--input-range", choices=RANGES, help="the same of what encode takes (default: --range)")
    add("--layout", choices=LAYOUTS, help="order of an image's axes (default: found)")
    add("--labels", metavar="NAMES", help="class names by index, with commas between")
    add("--classes", type=int, help="instead of --labels: so many, called 0, 1, …")
    add("--label-form", choices=LABEL_FORMS, help="of a module's label (default: index)")
    add("--no-truncation", action="store_true", help="the latent has no mean to be moved to")
    add("--portable", action="store_true", help="quantise it: the same bytes on every machine")
    add("--fit", choices=FITS, default="pad", help="how other pictures are fitted (default: pad)")
    add("--data", default="unknown", help="what it was trained on, for the card")
    add("--licence", default="unknown", help="licence of that, for the card")
    add("--from", dest="origin", default="", metavar="TEXT", help="where it is from, for the card")
    add("--note", default="", help="for the card")


def with_values_joined(argv: list[str]) -> list[str]:
    """``--range -1..1`` as ``--range=-1..1``: argparse takes what begins with - for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--range", "--input-range") and word in RANGES:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def options_of(arguments: argparse.Namespace) -> Options:
    """What is said on the command line.

    Raises:
        GeneratorError: an option has another form.
    """
    labels = tuple(arguments.labels.split(",")) if arguments.labels else ()
    if arguments.classes is not None:
        if labels or not 1 <= arguments.classes <= MAX_CLASSES:
            raise GeneratorError(
                f"--classes is {arguments.classes}; it is a number from 1 to {MAX_CLASSES}, in "
                "place of --labels"
            )
        labels = tuple(str(index) for index in range(arguments.classes))
    image = None
    if arguments.image:
        sides = arguments.image.split("x")
        if len(sides) != 3 or not all(side.isdecimal() for side in sides):
            raise GeneratorError(f"--image is {arguments.image!r}; write it as 3x32x32")
        channels, height, width = map(int, sides)
        image = (channels, height, width)
    return Options(
        name=arguments.name,
        store=arguments.store,
        latent=tuple(map(parse_noise, arguments.latent)),
        image=image,
        range=arguments.range,
        layout=arguments.layout,
        input_range=arguments.input_range,
        labels=labels,
        label_form=arguments.label_form,
        truncation=False if arguments.no_truncation else None,
        licence=arguments.licence,
        data=arguments.data,
        source=arguments.origin,
        note=arguments.note,
        fit=arguments.fit,
        replace=arguments.replace,
    )


def import_generator(arguments: argparse.Namespace) -> None:
    """``import``."""
    from training.importing import publish, torch_module
    from training.importing.weights import load_weights

    quantise = None
    if arguments.portable:
        from training.release.portable.imported import portable_graph

        quantise = portable_graph
    options = options_of(arguments)
    source: str = arguments.source
    if source.endswith(".onnx"):
        unused = [
            key
            for key in ("weights", "arg", "argv", "encode", "key", "label_form")
            if vars(arguments)[key]
        ]
        unused += ["method"] if arguments.method != "forward" else []
        if unused:
            option = unused[0].replace("_", "-")
            raise GeneratorError(f"--{option} is of torch modules; {source} is an ONNX file")
        publish.import_onnx(Path(source), arguments.encoder, options, quantise=quantise)
        return
    if source.endswith((".pth", ".pt", ".safetensors", ".ckpt")):
        raise GeneratorError(
            f"{source} holds weights, not the network they belong to. Name its class, and give "
            f"them as --weights: genserve import mymodel:Generator --weights {source} --latent 100 "
            f"--name {options.name}"
        )
    if arguments.encoder is not None:
        raise GeneratorError(
            "--encoder is of ONNX files; of a module name the method with --encode"
        )
    print(f"running {source}, which is your own code", flush=True)
    try:
        argv = shlex.split(arguments.argv)
    except ValueError as error:
        raise GeneratorError(f"--argv is {arguments.argv!r}: {error}") from error
    module = torch_module.load_module(source, _arguments(arguments.arg), argv)
    if arguments.weights is not None:
        load_weights(module, arguments.weights, arguments.key)
    else:
        print("no --weights: the module is imported with those it was built with", flush=True)
    if options.labels and options.label_form is None:
        options = dataclasses.replace(options, label_form="index")
    publish.import_torch(module, arguments.method, arguments.encode, options, quantise=quantise)


def _arguments(pairs: list[str]) -> dict[str, Any]:
    """Arguments of a class from NAME=VALUE; a value is a Python literal, else a text."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise GeneratorError(f"--arg is {pair!r}; write NAME=VALUE")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found
