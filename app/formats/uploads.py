"""A stranger's picture to a model's input.

Whatever its size, depth, ground and file: the network has seen pictures of one kind alone, and what
is not of that kind it takes for something else. What was done to a picture is told with the answer.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageChops, ImageOps, ImageStat

from app.errors import BodyTooLargeError, UnreadableImageError, shown
from app.formats.images import Image

# Pillow's own cap warns, or fails, at another number; ours is checked before decoding.
PillowImage.MAX_IMAGE_PIXELS = None

READABLE = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}

Choice = Literal["auto", "yes", "no"]
Step = Literal[
    "16 bits scaled",
    "alpha over black",
    "alpha over white",
    "turned upright",
    "inverted",
    "centred",
    "fitted",
    "cropped",
]

# By the source of a checkpoint's data: sets of light things on a dark ground, and those that were
# made as MNIST was. EMNIST's, KMNIST's, USPS' and scikit-learn's fill more of their frame.
LIGHT_ON_DARK = {"mnist", "fashion-mnist", "kmnist", "emnist", "usps", "digits"}
CENTRED = {"mnist"}

_RESAMPLING = PillowImage.Resampling
_MOST_INK_SIDE = 512  # pixels in which ink is looked for; a digit a tenth as large still has 50
_INK = 48  # of 255, from where on a pixel belongs to the box around the ink
_LEAST_CONTRAST = 24  # levels between ground and ink; less is noise, or nothing


class Fitting(NamedTuple):
    """How a picture is made to fit what a model was trained on."""

    invert: Choice = "no"
    center: Choice = "no"
    crop: bool = False  # to the middle that fills the shape, instead of black around the whole


AS_IT_IS = Fitting()


class Picture(NamedTuple):
    """A model's input, and how it came to be."""

    image: Image
    width: int  # pixels, as the file states them
    height: int
    steps: tuple[Step, ...]  # in the order in which they were done

    def __str__(self) -> str:
        return ", ".join([f"{self.width}x{self.height}", *self.steps])


_MOST_TOLD = 8


def summary(pictures: Sequence[Picture]) -> str:
    """What was done to each, in one line; of many, to the first."""
    told = [str(picture) for picture in pictures[:_MOST_TOLD]]
    more = len(pictures) - len(told)
    return "; ".join([*told, *([f"and {more} more"] if more else [])])


def fitting(data: Mapping[str, Any], invert: Choice = "auto", center: Choice = "auto") -> Fitting:
    """What a model's data ask for.

    Args:
        data: Of its checkpoint's header.
        invert, center: As the caller has it; ``auto`` stays where the data are known to be of that
            kind, and is ``no`` elsewhere: a photo may well have a light ground.
    """
    source = data.get("source")
    if invert == "auto" and source not in LIGHT_ON_DARK:
        invert = "no"
    if center == "auto" and source not in CENTRED:
        center = "no"
    return Fitting(invert, center, data.get("fit") == "crop")


@contextmanager
def _opened(data: bytes, formats: tuple[str, ...], max_pixels: int) -> Iterator[PillowImage.Image]:
    """A stranger's picture, for whatever makes Pillow decode it."""
    try:
        with PillowImage.open(BytesIO(data), formats=formats) as picture:
            pixels = picture.width * picture.height
            if pixels > max_pixels:
                raise BodyTooLargeError(
                    f"the picture has {picture.width} x {picture.height} = {pixels} pixels; "
                    f"at most {max_pixels} are read"
                )
            yield picture
    except BodyTooLargeError:
        raise
    except Exception as error:  # Pillow raises many classes for bad files, OSError but one
        raise UnreadableImageError(
            f"the {len(data)} bytes, which begin with {shown(data[:8].decode('latin-1'))}, are not "
            "a whole PNG, JPEG or WebP picture"
        ) from error


def read_picture(
    data: bytes, shape: tuple[int, int, int], max_pixels: int, how: Fitting = AS_IT_IS
) -> Picture:
    """A PNG, JPEG or WebP picture as a model's input.

    In this order: 16 bits are scaled to 8, not clipped; what is transparent is laid over black;
    the picture is turned upright by its EXIF orientation and made grey or RGB; inverted; centred,
    or, unless it has the model's size already, shrunk or enlarged to fit with its proportions kept
    and black around it.

    ``invert`` = auto inverts a picture whose frame (an outer edge of a 28th of its shorter side) is
    light, by the median. Of a picture with transparency the opaque part decides: where that is
    dark, as black ink on nothing is, the picture is laid over white and inverted. With ``yes`` it
    always is.

    ``center`` = yes puts the ink where MNIST has it (``_centre``), auto does so unless the picture
    has the model's size. One without ink is fitted as any other.

    ``training.data.pictures`` treats orientation, transparency and depth of the pictures that a
    network learns from in the same way.

    Args:
        data: The file.
        shape: The model's (C, H, W).
        max_pixels: Refused above, by the size that the header states, before decoding.
        how: What is done.

    Raises:
        UnreadableImageError: not a whole picture of these formats.
        BodyTooLargeError: more pixels than that.
    """
    channels, height, width = shape
    steps: list[Step] = []
    with _opened(data, tuple(READABLE.values()), max_pixels) as picture:
        own = picture.size
        # A JPEG can be decoded smaller.
        enough = 8 if how.center == "no" else math.ceil(_MOST_INK_SIDE / min(width, height))
        picture.draft(None, (enough * width, enough * height))
        flat = _flatten(picture, how.invert, steps)
        upright = ImageOps.exif_transpose(flat)
        if picture.getexif().get(_ORIENTATION, 1) in range(2, 9):
            steps.append("turned upright")
    made = upright.convert("L" if channels == 1 else "RGB")
    light = "alpha over white" in steps or (how.invert == "auto" and _ground_is_light(made))
    if light or how.invert == "yes":
        made = ImageOps.invert(made)
        steps.append("inverted")
    has_size = own == (width, height) and made.size == own
    wanted = how.center == "yes" or (how.center == "auto" and not has_size)
    centred = _centre(made.convert("L"), width, height) if wanted else None
    if centred is not None:
        made = centred
        steps.append("centred")
    elif made.size != (width, height):
        if how.crop:
            made = ImageOps.fit(made, (width, height), _RESAMPLING.LANCZOS)
        else:
            made = _fit(made, width, height)
        steps.append("cropped" if how.crop else "fitted")
    image = np.asarray(made.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    return Picture(image, *own, tuple(steps))


def read_exactly(data: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    """The pixels of a PNG or WebP as they are: (H, W, 3), grey in all channels alike.

    Args:
        data: The file.
        max_pixels: Refused above, by the size that the header states, before decoding.

    Returns:
        None = that is not all that the picture shows: it is transparent anywhere, has several
        frames, or more than 8 bits a channel.

    Raises:
        UnreadableImageError: not a whole picture of these formats.
        BodyTooLargeError: more pixels than that.
    """
    with _opened(data, ("PNG", "WEBP"), max_pixels) as picture:
        if getattr(picture, "n_frames", 1) != 1 or picture.mode.startswith(("I", "F")):
            return None
        rgba = np.asarray(picture.convert("RGBA"))
    return rgba[..., :3] if (rgba[..., 3] == 255).all() else None


def _fit(picture: PillowImage.Image, width: int, height: int) -> PillowImage.Image:
    """The picture in the middle of a black one, as large as fits, at least a pixel each way."""
    factor = min(width / picture.width, height / picture.height)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    fitted = PillowImage.new(picture.mode, (width, height))
    resized = picture.resize(size, _RESAMPLING.LANCZOS)
    fitted.paste(resized, ((width - size[0]) // 2, (height - size[1]) // 2))
    return fitted


_ORIENTATION = 0x0112  # of EXIF


def _flatten(picture: PillowImage.Image, invert: Choice, steps: list[Step]) -> PillowImage.Image:
    """The picture without transparency, palette or more than 8 bits; its EXIF stays."""
    exif = picture.getexif()
    clear = picture.info.get("transparency")
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).clip(0, 65535).astype(np.uint32)
        steps.append("16 bits scaled")
        eight = PillowImage.fromarray(((levels + 128) // 257).astype(np.uint8))
        flat = eight
        if isinstance(clear, int) and (levels == clear).any():
            opaque = PillowImage.fromarray(np.uint8(255) * (levels != clear).astype(np.uint8))
            black = ImageChops.multiply(eight, opaque)
            flat = _laid((black, black, black), opaque, invert, steps)
    elif picture.mode in ("LA", "PA", "RGBA") or clear is not None:
        # Colours multiplied by their opacity are what a black ground shows of them.
        red, green, blue, opaque = picture.convert("RGBA").convert("RGBa").split()
        flat = _laid((red, green, blue), opaque, invert, steps)
    else:
        flat = picture.convert("RGB")
    flat.getexif().update(exif)
    return flat


def _laid(
    bands: tuple[PillowImage.Image, ...],
    opaque: PillowImage.Image,
    invert: Choice,
    steps: list[Step],
) -> PillowImage.Image:
    """A transparent picture over black or white.

    Args:
        bands: Red, green and blue as a black ground shows them.
        opaque: 255 = wholly.
        invert: Whether a light ground will be turned dark.
        steps: What is done is added.
    """
    over_black = PillowImage.merge("RGB", bands)
    if opaque.getextrema()[0] == 255:
        return over_black
    visible = ImageStat.Stat(opaque).sum[0]
    light = ImageStat.Stat(over_black.convert("L")).sum[0] * 255
    if invert == "no" or (invert == "auto" and light >= 128 * visible):
        steps.append("alpha over black")
        return over_black
    steps.append("alpha over white")
    clear = ImageOps.invert(opaque)
    return PillowImage.merge("RGB", [ImageChops.add(band, clear) for band in bands])


def _frame(levels: NDArray[Any]) -> NDArray[np.bool_]:
    """Which pixels lie at the edge: (H, W), a 28th of the shorter side deep, at least one pixel."""
    deep = max(1, min(levels.shape) // 28)
    edge = np.ones(levels.shape, dtype=np.bool_)
    edge[deep:-deep, deep:-deep] = False
    return edge


def _ground_is_light(picture: PillowImage.Image) -> bool:
    levels = np.asarray(picture.convert("L"))
    return bool(np.median(levels[_frame(levels)]) >= 128)


def _threshold(levels: NDArray[np.float32]) -> float:
    """The level that splits a picture into ground and ink with least variance within the two.

    Source: Otsu 1979, IEEE Trans. Systems, Man, and Cybernetics 9(1).
    """
    counts, edges = np.histogram(levels, 256)
    weight = counts.cumsum()
    middle = (edges[:-1] + edges[1:]) / 2
    total = (counts * middle).cumsum()
    below, above = weight[:-1], weight[-1] - weight[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total[:-1] / below - (total[-1] - total[:-1]) / above) ** 2
    return float(edges[1 + int(np.nan_to_num(between).argmax())])


def _ink(picture: PillowImage.Image) -> NDArray[np.uint8] | None:
    """Light ink on a dark ground as ink on black, 255 where it is full; None = there is none.

    A photo's paper is grey, unevenly lit, and noisy. A plane through the ground at the picture's
    frame is taken away, then what is left of the ground there; the rest is stretched.
    """
    levels = np.asarray(picture, dtype=np.float32)
    edge = _frame(levels)
    rows, columns = np.nonzero(edge & (levels <= _threshold(levels)))
    if len(rows) < 3:
        return None
    places = np.stack([np.ones(len(rows)), rows, columns], axis=1).astype(np.float32)
    plane, *_ = np.linalg.lstsq(places, levels[rows, columns], rcond=None)
    height, width = levels.shape
    down, right = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    levels = levels - (plane[0] + plane[1] * down + plane[2] * right)
    threshold = _threshold(levels)
    frame = levels[edge]
    ground = float(np.percentile(frame[frame <= threshold], 99)) if len(frame) else 0.0
    full = float(np.percentile(levels[levels > threshold], 75))
    if full - ground < _LEAST_CONTRAST:
        return None
    stretched = (levels - ground) * (255 / (full - ground))
    ink: NDArray[np.uint8] = stretched.clip(0, 255).round().astype(np.uint8)
    return ink


def _centre(picture: PillowImage.Image, width: int, height: int) -> PillowImage.Image | None:
    """The picture as MNIST's were made: its ink, scaled to fit the middle 20 x 20 of 28 x 28 with
    its proportions kept, and moved, by whole pixels, until its centre of mass is at row 14 and
    column 14 (counted from 0), as far as it stays inside. None = there is no ink.

    Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits".

    Args:
        picture: Grey, light ink on a dark ground.
        width, height: Of the result; not 28, the box grows in proportion.
    """
    if (shrink := -(-max(picture.size) // _MOST_INK_SIDE)) > 1:
        picture = picture.reduce(shrink)
    if min(picture.size) < 3 or (ink := _ink(picture)) is None:
        return None
    rows = np.flatnonzero((ink > _INK).any(axis=1))
    columns = np.flatnonzero((ink > _INK).any(axis=0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    factor = min(round(width * 20 / 28) / box.shape[1], round(height * 20 / 28) / box.shape[0])
    size = (max(1, round(box.shape[1] * factor)), max(1, round(box.shape[0] * factor)))
    small = PillowImage.fromarray(np.ascontiguousarray(box)).resize(size, _RESAMPLING.LANCZOS)
    mass = np.asarray(small, dtype=np.float64)
    total = max(mass.sum(), 1)
    row = (mass.sum(axis=1) * np.arange(size[1])).sum() / total
    column = (mass.sum(axis=0) * np.arange(size[0])).sum() / total
    left = min(max(round(width / 2 - column), 0), width - size[0])
    top = min(max(round(height / 2 - row), 0), height - size[1])
    centred = PillowImage.new("L", (width, height))
    centred.paste(small, (left, top))
    return centred
