"""How an upload is adapted to what a model was trained on.

A network has seen pictures of one kind and misreads all others: MNIST's digits are light strokes
of one size on black, in the middle.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps

from app.fitting.centring import RESAMPLING, placed
from app.fitting.ink import find_ink

Levels = NDArray[np.uint8]
Tristate = Literal["auto", "yes", "no"]
Step = Literal[
    "16 bits scaled",
    "alpha over black",
    "alpha over white",
    "turned upright",
    "inverted",
    "lines removed",
    "reflections removed",
    "strokes joined",
    "strokes filled",
    "pieces dropped",
    "strokes thickened",
    "centred",
    "fitted",
    "cropped",
]

# Sources of training data with light things on a dark ground, and those centred as MNIST's digits
# are. The digits of EMNIST, KMNIST, USPS and scikit-learn fill more of their frame.
LIGHT_ON_DARK = {"mnist", "fashion-mnist", "kmnist", "emnist", "usps", "digits"}
CENTRED = {"mnist"}

# What a picture in the model's own form has. All 70,000 digits of MNIST do: at least 55 % of their
# pixels are 0, the lightest is above 200, and the centre of mass is within .6 pixels of the middle.
_BLACK, _BLACK_SHARE = 8, 0.4  # levels up to this one are black; share of the pixels that are
_FULL_INK = 128  # the lightest pixel's level
_OFF_CENTRE = 1 / 8  # of the side; of the centre of mass


class Fitting(NamedTuple):
    """How an upload is adapted to what a model was trained on."""

    invert: Tristate = "no"
    center: Tristate = "no"
    crop: bool = False  # cut to the model's shape, instead of adding black around the whole


AS_IT_IS = Fitting()
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels


def fitting_for(
    data: Mapping[str, Any], invert: Tristate = "auto", center: Tristate = "auto"
) -> Fitting:
    """How a model's training data ask uploads to be adapted.

    Args:
        data: Of its checkpoint's header.
        invert, center: As the request has them. ``auto`` stays where the data are known to be of
            that kind, and becomes ``no`` elsewhere: a photo may well have a light ground.
    """
    # An imported generator's publisher may say that its pictures are like MNIST's.
    source = "mnist" if data.get("fit") == "mnist" else data.get("source")
    if invert == "auto" and source not in LIGHT_ON_DARK:
        invert = "no"
    if center == "auto" and source not in CENTRED:
        center = "no"
    return Fitting(invert, center, data.get("fit") == "crop")


def adapted(
    picture: PillowImage.Image,
    shape: tuple[int, int, int],
    fitting: Fitting,
    over_white: bool = False,
) -> tuple[Levels, list[Step]]:
    """A picture as a model's input, (H, W) or (H, W, C), and what was done to it, in order.

    Args:
        picture: Grey or RGB, upright.
        shape: The model's (C, H, W).
        fitting: What is done.
        over_white: It was transparent, and laid over white because what is drawn is dark.
    """
    if (kept := kept_as_it_is(picture, shape, fitting, over_white)) is not None:
        return kept
    channels, height, width = shape
    dark = _is_dark(fitting, over_white)
    if fitting.center != "no" and (centred := _centred(picture, width, height, dark)):
        image, steps = centred
        return _in_channels(image, channels), steps
    result = picture.convert(_MODES[channels])
    done: list[Step] = []
    if has_light_ground(result) if dark is None else dark:
        result = _inverted(result)
        done.append("inverted")
    if result.size != (width, height):
        if fitting.crop:
            result = ImageOps.fit(result, (width, height), RESAMPLING)
        else:
            result = _letterboxed(result, width, height)
        done.append("cropped" if fitting.crop else "fitted")
    return np.asarray(result, dtype=np.uint8), done


def kept_as_it_is(
    picture: PillowImage.Image,
    shape: tuple[int, int, int],
    fitting: Fitting,
    over_white: bool = False,
) -> tuple[Levels, list[Step]] | None:
    """A picture that has the model's form already, or whose negative does: to the byte.

    Arguments as of ``adapted``. None = it has not, or may not stay.
    """
    channels, height, width = shape
    if fitting.center != "auto" or picture.size != (width, height):
        return None
    levels = np.asarray(picture.convert("L"))
    dark = _is_dark(fitting, over_white)
    done: list[Step] = []
    if dark is True or not has_model_form(levels):
        levels = 255 - levels
        if dark is False or not has_model_form(levels):
            return None
        done.append("inverted")
    return _in_channels(levels, channels), done


def _in_channels(levels: Levels, channels: int) -> Levels:
    """Grey levels (H, W) as a picture of so many channels."""
    if channels == 1:
        return levels
    return np.asarray(PillowImage.fromarray(levels).convert(_MODES[channels]))


def _is_dark(fitting: Fitting, over_white: bool) -> bool | None:
    """Whether the ink is darker than its ground; None = find out."""
    return {"auto": True if over_white else None, "yes": True, "no": False}[fitting.invert]


def _centred(
    picture: PillowImage.Image, width: int, height: int, dark: bool | None
) -> tuple[Levels, list[Step]] | None:
    """The digit of a picture in MNIST's form; None = there is none."""
    ink = find_ink(picture if picture.mode == "L" else picture.convert("RGB"), dark)
    if ink is None:
        return None
    image, thickened = placed(ink.levels, width, height)
    done: dict[Step, bool] = {
        "inverted": ink.dark,
        "lines removed": ink.ruled,
        "reflections removed": ink.cleared,
        "strokes joined": ink.joined,
        "strokes filled": ink.filled,
        "pieces dropped": ink.dropped,
        "strokes thickened": thickened,
        "centred": True,
    }
    return image, [step for step, was_done in done.items() if was_done]


def has_model_form(levels: Levels) -> bool:
    """Whether a picture of the model's size is already as MNIST is: light ink on black, in the
    middle. It then stays as it is, to the byte."""
    if levels.max() < _FULL_INK or np.count_nonzero(levels <= _BLACK) < _BLACK_SHARE * levels.size:
        return False
    height, width = levels.shape
    total = int(levels.sum(dtype=np.int64))
    row = int(levels.sum(axis=1, dtype=np.int64) @ np.arange(height)) / total
    column = int(levels.sum(axis=0, dtype=np.int64) @ np.arange(width)) / total
    off_centre = max(abs(row - (height - 1) / 2) / height, abs(column - (width - 1) / 2) / width)
    return bool(off_centre <= _OFF_CENTRE)


def has_light_ground(picture: PillowImage.Image) -> bool:
    """Whether the picture's frame is light, by the median: a 28th of the shorter side deep."""
    levels = np.asarray(picture.convert("L"))
    deep = max(1, min(levels.shape) // 28)
    edge = np.ones(levels.shape, dtype=np.bool_)
    edge[deep:-deep, deep:-deep] = False
    return bool(np.median(levels[edge]) >= 128)


def _inverted(picture: PillowImage.Image) -> PillowImage.Image:
    """The negative; its opacity stays."""
    if picture.mode != "RGBA":
        return ImageOps.invert(picture)
    *bands, opaque = picture.split()
    return PillowImage.merge("RGBA", [*map(ImageOps.invert, bands), opaque])


def _letterboxed(picture: PillowImage.Image, width: int, height: int) -> PillowImage.Image:
    """The picture in the middle of a black one, as large as fits, at least a pixel each way."""
    factor = min(width / picture.width, height / picture.height)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    result = PillowImage.new(picture.mode, (width, height))
    resized = picture.resize(size, RESAMPLING)
    result.paste(resized, ((width - size[0]) // 2, (height - size[1]) // 2))
    return result
