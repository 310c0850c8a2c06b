"""A picture file to pixels of one size, by the same rules as the service's uploads.

``app.formats.reading.uploads`` reads the pictures of requests; this module reads training pictures.
Both treat orientation, transparency, palettes and depth alike and scale with the same filter, which
a test checks. Otherwise a network would get inputs unlike its training images.
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # of an animation, the first frame
# Four pictures are decoded at a time, with up to some ten bytes a pixel each.
MAX_PIXELS = 100_000_000

# Pillow's own limit warns or fails at another number; MAX_PIXELS is checked before decoding.
PillowImage.MAX_IMAGE_PIXELS = None

Image = NDArray[np.uint8]  # (H, W) grey or (H, W, 3) RGB


class PictureError(Exception):
    """The file is not a usable picture; the message is the reason in a few words."""


def read_picture(data: bytes, size: int, channels: int = 0) -> Image:
    """A file's picture as a square of 8-bit pixels: upright, opaque, cropped and scaled by ``fit``.

    EXIF orientation is applied, transparency blended with black, 16-bit levels scaled.

    Args:
        data: The file.
        size: Pixels a side of the result.
        channels: 1 = grey (ITU-R 601 luma), 3 = RGB, 0 = as in the file. A palette counts as grey
            if all colours in use are grey.

    Raises:
        PictureError: not a complete picture of FORMATS, over MAX_PIXELS by its header (checked
            before decoding), or with floating-point pixels, whose range is unknown.
    """
    try:
        with PillowImage.open(BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise PictureError(
                    f"{picture.width} x {picture.height} pixels, over {MAX_PIXELS // 10**6} million"
                )
            if picture.mode == "F":
                raise PictureError("floating-point pixels")
            picture.draft(None, (8 * size, 8 * size))  # a JPEG can be decoded smaller
            mode = picture.mode
            flat = ImageOps.exif_transpose(flatten(picture))
    except PictureError:
        raise
    except Exception as error:  # Pillow raises many classes on bad files
        raise PictureError(f"not a complete {', '.join(FORMATS)} picture") from error
    if channels == 0:
        grey = mode in ("1", "L", "La", "LA") or mode.startswith("I")
        if mode in ("P", "PA"):
            red, green, blue = flat.convert("RGB").split()
            grey = red == green == blue
        channels = 1 if grey else 3
    return np.asarray(fit(flat.convert("L" if channels == 1 else "RGB"), size), dtype=np.uint8)


def fit(picture: PillowImage.Image, size: int) -> PillowImage.Image:
    """The central square of a picture, scaled to ``size`` with an antialiasing Lanczos filter."""
    if picture.size == (size, size):
        return picture
    return ImageOps.fit(picture, (size, size), PillowImage.Resampling.LANCZOS)


def flatten(picture: PillowImage.Image) -> PillowImage.Image:
    """The picture as 8-bit grey or RGB without transparency or palette; EXIF is kept."""
    exif = picture.getexif()
    clear = picture.info.get("transparency")
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).clip(0, 65535).astype(np.uint32)
        if isinstance(clear, int):
            levels[levels == clear] = 0
        flat = PillowImage.fromarray(((levels + 128) // 257).astype(np.uint8))
    elif picture.mode in ("LA", "PA", "RGBA") or clear is not None:
        # Colours multiplied by their opacity are the blend with black.
        bands = picture.convert("RGBA").convert("RGBa").split()
        flat = PillowImage.merge("RGB", bands[:3])
    else:
        flat = picture.convert("RGB")
    flat.getexif().update(exif)
    return flat
