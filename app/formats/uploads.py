"""An uploaded picture to a model's input.

A network has seen pictures of one kind and misreads all others. So size, depth, ground and
orientation are adapted, and the response lists what was done.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageChops, ImageOps, ImageStat

from app.errors import BodyTooLargeError, UnreadableImageError, shown
from app.fitting.adapt import AS_IT_IS, Fitting, Step, Tristate, adapted
from app.fitting.ink import MAX_SIDE as MAX_INK_SIDE
from app.formats.pixels import Image

# Pillow's own limit is another number; ``max_pixels`` is checked before decoding.
PillowImage.MAX_IMAGE_PIXELS = None

READABLE = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}

_ORIENTATION = 0x0112  # EXIF tag
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


@contextmanager
def _opened(data: bytes, formats: tuple[str, ...], max_pixels: int) -> Iterator[PillowImage.Image]:
    """An untrusted picture; whatever makes Pillow decode it belongs into this context."""
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


def read_upload(
    data: bytes, shape: tuple[int, int, int], max_pixels: int, fitting: Fitting = AS_IT_IS
) -> Upload:
    """A PNG, JPEG or WebP file as a model's input.

    In this order: 16 bits are scaled to 8, not clipped; transparent pixels are laid over black,
    unless the model has an alpha channel; the
    picture is turned upright by its EXIF orientation; made grey or RGB; inverted; centred. What is
    not centred and has another size than the model is resized with its proportions kept and black
    around it.

    ``invert`` = auto inverts a picture whose frame is light. Of a picture with transparency the
    opaque part decides: where that is dark, as black ink on nothing is, the picture is laid over
    white and inverted. ``yes`` always inverts.

    ``center`` = yes puts the ink where MNIST has it; auto does so unless the picture has the
    model's size. A picture without ink is resized as any other.

    ``training.data.pictures`` treats orientation, transparency and depth of training pictures in
    the same way.

    Args:
        data: The file.
        shape: The model's (C, H, W).
        max_pixels: Most pixels of the file, by the size in its header, checked before decoding.
        fitting: What is done.

    Raises:
        UnreadableImageError: not a whole picture of these formats.
        BodyTooLargeError: more than ``max_pixels``.
    """
    _, height, width = shape
    steps: list[Step] = []
    with _opened(data, tuple(READABLE.values()), max_pixels) as picture:
        file_size = picture.size
        # JPEGs can be decoded at a fraction of their size: no more pixels than are needed.
        enough = 8 if fitting.center == "no" else math.ceil(MAX_INK_SIDE / min(width, height))
        picture.draft(None, (enough * width, enough * height))
        flat = picture if shape[0] == 4 else _flatten(picture, fitting.invert, steps)
        upright = ImageOps.exif_transpose(flat)
        if picture.getexif().get(_ORIENTATION, 1) in range(2, 9):
            steps.append("turned upright")
    image, done = adapted(upright, shape, fitting, "alpha over white" in steps)
    steps += done
    return Upload(image, *file_size, tuple(steps))


def read_pixels(data: bytes, max_pixels: int, alpha: bool) -> NDArray[np.uint8] | None:
    """The unchanged pixels of a PNG or WebP: (H, W, 3), grey alike in all channels.

    Args:
        data: The file.
        max_pixels: Most pixels of the file, by the size in its header, checked before decoding.
        alpha: Return (H, W, 4) instead.

    Returns:
        None = such bytes cannot hold the picture: it has several frames, more than 8 bits a
        channel, or without ``alpha`` is transparent anywhere.

    Raises:
        UnreadableImageError: not a whole picture of these formats.
        BodyTooLargeError: more than ``max_pixels``.
    """
    with _opened(data, ("PNG", "WEBP"), max_pixels) as picture:
        if getattr(picture, "n_frames", 1) != 1 or picture.mode.startswith(("I", "F")):
            return None
        rgba = np.asarray(picture.convert("RGBA"))
    if alpha:
        return rgba
    return rgba[..., :3] if (rgba[..., 3] == 255).all() else None


def _flatten(picture: PillowImage.Image, invert: Tristate, steps: list[Step]) -> PillowImage.Image:
    """The picture in grey or RGB of 8 bits, without transparency; its EXIF stays."""
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
            flat = _over_ground((black, black, black), opaque, invert, steps)
    elif picture.mode in ("LA", "PA", "RGBA") or clear is not None:
        # Colours multiplied by their opacity are what a black ground shows of them.
        red, green, blue, opaque = picture.convert("RGBA").convert("RGBa").split()
        flat = _over_ground((red, green, blue), opaque, invert, steps)
    else:
        flat = picture.convert("RGB")
    flat.getexif().update(exif)
    return flat


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
