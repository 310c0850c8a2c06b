"""An uploaded picture to a model's input.

A network has seen pictures of one kind and misreads all others. So size, depth, ground and
orientation are adapted, and the response lists what was done.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image as PillowImage
from PIL import ImageChops, ImageOps, ImageStat

from app.fitting.adapt import AS_IT_IS, Fitting, Step, Tristate, adapted, kept_as_it_is
from app.fitting.ink import MAX_SIDE as MAX_INK_SIDE
from app.formats.pixels import Image
from app.formats.reading.decoding import DecodedPicture, Needed, decode
from app.formats.reading.picture_header import (
    DecodingLimits,
    PictureHeader,
    check_header,
    read_header,
)

READABLE = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}

_MAX_SUMMARY = 8  # uploads listed in one line


class Upload(NamedTuple):
    """An uploaded picture as a model's input, and what was done to it."""

    image: Image
    width: int  # pixels, as the file states them
    height: int
    steps: tuple[Step, ...]  # in order

    def __str__(self) -> str:
        return ", ".join([f"{self.width}x{self.height}", *self.steps])


def summary(uploads: Sequence[Upload]) -> str:
    """What was done to each upload, in one line; of many, to the first."""
    listed = [str(upload) for upload in uploads[:_MAX_SUMMARY]]
    more = len(uploads) - len(listed)
    return "; ".join([*listed, *([f"and {more} more"] if more else [])])


def needed_pixels(shape: tuple[int, int, int], fitting: Fitting) -> Needed:
    """How many pixels of an upload are needed for a model's input of ``shape`` (C, H, W)."""
    _, height, width = shape
    longer = max(width, height)
    if fitting.center == "no":
        enough = 8 * longer
        return Needed(enough, enough, fitting.crop)
    jpeg_side = math.ceil(MAX_INK_SIDE / min(width, height)) * longer
    return Needed(jpeg_side, MAX_INK_SIDE, at_most=True)


def check_upload(
    data: bytes, shape: tuple[int, int, int], limits: DecodingLimits, fitting: Fitting
) -> PictureHeader:
    """The header of an upload whose size is within bounds; it is not decoded.

    Args: as in ``read_upload``.

    Raises:
        UnreadableImageError: not a PNG, JPEG or WebP.
        BodyTooLargeError: it takes too much to decode.
    """
    header = read_header(data)
    check_header(header, len(data), limits, needed_pixels(shape, fitting).jpeg_side)
    return header


def read_upload(
    data: bytes,
    shape: tuple[int, int, int],
    limits: DecodingLimits,
    fitting: Fitting = AS_IT_IS,
) -> Upload:
    """A PNG, JPEG or WebP file as a model's input.

    In this order: a large picture is reduced; 16 bits are scaled to 8, not clipped; transparent
    pixels are laid over black, unless the model has an alpha channel; the picture is turned upright
    by its EXIF orientation; made grey or RGB; inverted; centred. What is not centred and has
    another size than the model's is resized with its proportions kept and black around it.

    ``invert`` = auto inverts a picture whose ink is darker than its ground or, where no ink is
    looked for, whose frame is light. Of a picture with transparency the opaque part decides: where
    that is dark, as black ink on nothing is, the picture is laid over white and inverted. ``yes``
    always inverts.

    ``center`` = yes finds the digit and puts it where MNIST has it; auto does so unless the picture
    has the model's form. A picture without ink is resized as any other.

    ``training.data.pictures`` treats orientation, transparency and depth of training pictures in
    the same way.

    Args:
        data: The file.
        shape: The model's (C, H, W).
        limits: What the file may be.
        fitting: What is done.

    Raises:
        UnreadableImageError: not a whole picture of these formats.
        BodyTooLargeError: beyond ``limits``.
    """
    header = check_upload(data, shape, limits, fitting)
    decoded = decode(data, header, limits, needed_pixels(shape, fitting), alpha=shape[0] == 4)
    return fit_picture(decoded, (header.width, header.height), shape, fitting)


def read_small_upload(
    data: bytes,
    header: PictureHeader,
    shape: tuple[int, int, int],
    limits: DecodingLimits,
    fitting: Fitting,
) -> Upload | None:
    """``read_upload`` of a few pixels, unless ink has to be looked for, which takes milliseconds.

    Args:
        data, shape, limits, fitting: As in ``read_upload``.
        header: From ``check_upload``.

    Raises:
        UnreadableImageError, BodyTooLargeError
    """
    decoded = decode(data, header, limits, needed_pixels(shape, fitting), alpha=shape[0] == 4)
    flat, steps = _flat(decoded, fitting)
    over_white = "alpha over white" in steps
    if fitting.center == "no":
        found = adapted(flat, shape, fitting, over_white)
    else:
        kept = kept_as_it_is(flat, shape, fitting, over_white)
        if kept is None:
            return None
        found = kept
    image, done = found
    return Upload(image, header.width, header.height, (*steps, *done))


def fit_picture(
    decoded: DecodedPicture,
    file_size: tuple[int, int],
    shape: tuple[int, int, int],
    fitting: Fitting,
) -> Upload:
    """A decoded picture as a model's input; see ``read_upload``.

    Args:
        decoded: The picture, perhaps reduced.
        file_size: Width and height as its file states them, pixels.
        shape: The model's (C, H, W).
        fitting: What is done.
    """
    flat, steps = _flat(decoded, fitting)
    image, done = adapted(flat, shape, fitting, "alpha over white" in steps)
    return Upload(image, *file_size, (*steps, *done))


def _flat(decoded: DecodedPicture, fitting: Fitting) -> tuple[PillowImage.Image, list[Step]]:
    """A decoded picture without transparency and upright, and what was done to it."""
    steps: list[Step] = []
    flat, turn = decoded.picture, decoded.turn
    if decoded.sixteen_bits:
        steps.append("16 bits scaled")
    if flat.mode == "RGBa":
        red, green, blue, opaque = flat.split()
        flat = _over_ground((red, green, blue), opaque, fitting.invert, steps)
    if turn is not None:
        flat = flat.transpose(turn)
        steps.append("turned upright")
    return flat, steps


def _over_ground(
    bands: tuple[PillowImage.Image, ...],
    opaque: PillowImage.Image,
    invert: Tristate,
    steps: list[Step],
) -> PillowImage.Image:
    """A transparent picture laid over black, or over white where it will be inverted.

    Args:
        bands: Red, green and blue as a black ground shows them.
        opaque: Opacity; 255 = opaque.
        invert: As in ``Fitting``.
        steps: The step taken is appended.
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
