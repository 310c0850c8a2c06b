"""What a graph's inputs and outputs are: noise, label, images of which shape and range."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.importing.errors import GeneratorError
from training.importing.options import Options
from training.networks.graph.config import RANGES, GraphConfig, LabelInput, Noise

TOLERANCE = 1e-3  # of a range: an engine's tanh may exceed 1 by a few roundings
# Share of values far outside of their range from which the range is taken as wrong: a tanh's that
# are said to be 0..1 are in about half of the cases. A network without a bound at its end is near.
MOST_CLAMPED = 0.25
FAR = 0.05  # of a range


@dataclasses.dataclass(frozen=True)
class Ends:
    """The inputs and outputs of an ONNX model: name -> (whether integers, shape of a row)."""

    inputs: dict[str, tuple[bool, tuple[int | str, ...]]]
    outputs: tuple[str, ...]


def ends_of(model: Any, name: str) -> Ends:
    """The inputs and outputs of a model.

    Raises:
        GeneratorError: an input has a batch of one size, or a row of unknown shape.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {}
    for end in model.graph.input:
        if end.name in weights:
            continue
        kind = end.type.tensor_type
        sides = [
            side.dim_value if side.HasField("dim_value") else side.dim_param
            for side in kind.shape.dim
        ]
        if not sides:
            raise GeneratorError(f"{name}: input {end.name} has no batch axis")
        if isinstance(sides[0], int):
            raise GeneratorError(
                f"{name}: input {end.name} has a fixed batch of {sides[0]}. Export it with a "
                "dynamic one: torch.onnx.export(..., dynamo=True, dynamic_shapes=({0: 'batch'},)), "
                "or of older versions dynamic_axes={'input': {0: 'batch'}}"
            )
        inputs[end.name] = (kind.elem_type in (6, 7), tuple(sides[1:]))  # int32, int64
    if not inputs:
        raise GeneratorError(f"{name} takes no input, so nothing in it can depend on a seed")
    if not model.graph.output:
        raise GeneratorError(f"{name} has no output")
    return Ends(inputs, tuple(end.name for end in model.graph.output))


def assigned_inputs(
    ends: Ends, options: Options, name: str
) -> tuple[tuple[Noise, ...], LabelInput | None]:
    """Which inputs are noise, and which is the label."""
    label = None
    rest = dict(ends.inputs)
    integers = [key for key, (whole, _) in rest.items() if whole]
    if options.labels:
        classes = len(options.labels)
        named = {part.name for part in options.latent}
        one_hot = [
            key
            for key, (whole, row) in rest.items()
            if not whole and row == (classes,) and key not in named and len(rest) > 1
        ]
        found = integers or (one_hot[-1:] if one_hot else [])
        if not found:
            raise GeneratorError(
                f"{name} takes {_listed(ends)}: none of them is a label, an int64 index or a "
                f"one-hot row of {classes}; leave --labels out if it is unconditional"
            )
        label = LabelInput(found[0], "index" if integers else "one_hot")
        rest.pop(found[0])
        integers = integers[1:]
    if integers:
        raise GeneratorError(
            f"{name} takes the integers {', '.join(integers)}: name the classes with --labels, or "
            "--classes N"
        )
    given = {part.name: part for part in options.latent if part.name}
    in_order = [part for part in options.latent if not part.name]
    if unknown := sorted(set(given) - set(rest)):
        raise GeneratorError(f"{name} has no input {unknown[0]}; it takes {_listed(ends)}")
    noise = []
    for key, (_, row) in rest.items():
        said = given.get(key) or (in_order.pop(0) if in_order else None)
        shape = tuple(n for n in row if isinstance(n, int))
        if said is not None:
            if len(said.shape) != len(row) or any(
                isinstance(n, int) and n != m for n, m in zip(row, said.shape, strict=False)
            ):
                raise GeneratorError(
                    f"{name}: input {key} has rows of {list(row)}, not {list(said.shape)}"
                )
            noise.append(dataclasses.replace(said, name=key))
        elif len(shape) < len(row):
            raise GeneratorError(
                f"{name}: input {key} has rows of {list(row)}: say its shape with --latent "
                f"{key}=SHAPE"
            )
        else:
            noise.append(Noise(key, shape))
    if in_order:
        raise GeneratorError(
            f"{name} takes {_listed(ends)}; --latent is given {len(options.latent)} times"
        )
    if not noise:
        raise GeneratorError(f"{name} takes no noise, so all images of a label would be the same")
    return tuple(noise), label


def picture_and_label(ends: Ends, config: GraphConfig, name: str) -> tuple[str, str | None]:
    """Which input of an encoder is the picture, and which the label that its decoder takes too.

    Raises:
        GeneratorError: it takes something else.
    """
    label = config.label
    wanted = (True, ()) if label and label.form == "index" else (False, (config.num_classes,))
    labels = [key for key, end in ends.inputs.items() if label and end == wanted]
    pictures = [key for key in ends.inputs if key not in labels]
    if len(pictures) != 1 or len(labels) > 1:
        form = f", and a label as decode takes it ({label.form})" if label else ""
        raise GeneratorError(f"{name} takes {_listed(ends)}; it has to take one picture{form}")
    return pictures[0], labels[0] if labels else None


def _listed(ends: Ends) -> str:
    return ", ".join(
        f"{key} ({'int64' if whole else 'float'} {list(row)})"
        for key, (whole, row) in ends.inputs.items()
    )


def image_shape(row: tuple[int, ...], options: Options) -> tuple[tuple[int, int, int], str, bool]:
    """Channels, height and width of an output's row, its layout, and whether to reshape it."""
    size = math.prod(row)
    if options.image is not None:
        if math.prod(options.image) != size:
            raise GeneratorError(
                f"--image is {'x'.join(map(str, options.image))}, {math.prod(options.image)} "
                f"numbers; the output has {size}"
            )
        if len(row) != 3:
            return options.image, "NCHW", True
    if len(row) == 3:
        first = row[0] in (1, 3, 4)
        layout = options.layout or ("NCHW" if first else "NHWC")
        channels, *sides = row if layout == "NCHW" else (row[2], *row[:2])
        if channels in (1, 3, 4):
            return (channels, sides[0], sides[1]), layout, False
    if len(row) == 2:
        return (1, row[0], row[1]), "NCHW", True
    if len(row) == 1:
        for channels in (1, 3):
            side = math.isqrt(size // channels)
            if channels * side * side == size and side > 1:
                return (channels, side, side), "NCHW", True
    raise GeneratorError(
        f"the output has rows of {list(row)}, which are no image: images have 1, 3 or 4 channels, "
        "first or last. If it is one in a row, say its shape with --image CxHxW"
    )


def checked_range(
    raw: NDArray[np.float32], said: str | None, name: str, say: Callable[[str], object]
) -> str:
    """The range of the pixels: the one said if the samples agree, else what they look like.

    Raises:
        GeneratorError: they are of no known range.
    """
    low, high = float(raw.min()), float(raw.max())
    if said is None:
        for text, (least, most) in RANGES.items():
            tolerance = (most - least) * TOLERANCE
            if least - tolerance <= low and high <= most + tolerance:
                say(f"the samples run from {low:.3g} to {high:.3g}: taken as {text} (--range)")
                return text
        raise GeneratorError(
            f"{name}: the samples run from {low:.3g} to {high:.3g}, which is none of "
            f"{', '.join(RANGES)}: say which is meant with --range, and values outside are clamped"
        )
    least, most = RANGES[said]
    tolerance = (most - least) * TOLERANCE
    outside, wrong = (
        float(((raw < least - beyond) | (raw > most + beyond)).mean())
        for beyond in (tolerance, (most - least) * FAR)
    )
    if wrong > MOST_CLAMPED:
        raise GeneratorError(
            f"{name}: the samples run from {low:.3g} to {high:.3g}, {wrong:.0%} of them far "
            f"outside of {said}: is another --range meant, or is a tanh or sigmoid missing at its "
            "end?"
        )
    if outside > 1e-4:
        say(f"{outside:.2%} of the samples' values are outside of {said}, and are clamped")
    if most == 255 and high <= 1.5:
        say(f"the samples run from {low:.3g} to {high:.3g}: is --range 0..1 meant?")
    return said
