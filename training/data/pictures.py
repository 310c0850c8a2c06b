"""A picture file to pixels of one size, by the rules that the service has for uploads.

``app.formats.uploads`` reads a stranger's picture; what is here reads the pictures that a network
learns from. Both do the same with orientation, transparency, palettes and depth, and scale with the
same filter (a test holds them together): a network would otherwise be asked about pixels of a kind
that it never saw.
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # of an animation, the first frame
# Four pictures are read at a time, at up to about ten bytes a pixel while their layers are joined.
MAX_PIXELS = 100_000_000

# Pillow's own cap warns, or fails, at another number; ours is checked before decoding.
PillowImage.MAX_IMAGE_PIXELS = None

Image = NDArray[np.uint8]  # (H, W) grey or (H, W, 3) RGB


class PictureError(Exception):
    """The file is no picture that can be learnt from; the message is the reason in a few words."""


def read_picture(data: bytes, size: int, channels: int = 0) -> Image:
    """A file's picture, upright, opaque, in 8 bits, as ``fit`` makes it.

    Turned as its EXIF orientation says; laid over black where it is transparent; 16-bit levels are
    scaled, not clipped.

    Args:
        data: The file.
        size: Pixels a side of the result.
        channels: 1 = grey (ITU-R 601 luma), 3 = RGB, 0 = as the file has it. A palette counts as
            grey where all its colours in use are.

    Raises:
        PictureError: not a whole picture of FORMATS, over MAX_PIXELS by its header (checked before
            decoding), or of floating-point pixels, whose range no file states.
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
            flat = ImageOps.exif_transpose(_flatten(picture))
    except PictureError:
        raise
    except Exception as error:  # Pillow raises many classes for bad files, OSError but one
        raise PictureError(f"no whole {', '.join(FORMATS)} picture") from error
    if channels == 0:
        grey = mode in ("1", "L", "La", "LA") or mode.startswith("I")
        if mode in ("P", "PA"):
            red, green, blue = flat.convert("RGB").split()
            grey = red == green == blue
        channels = 1 if grey else 3
    return np.asarray(fit(flat.convert("L" if channels == 1 else "RGB"), size), dtype=np.uint8)


def fit(picture: PillowImage.Image, size: int) -> PillowImage.Image:
    """The middle square of a picture, scaled to ``size``: the shorter side fits, the longer is cut
    on both ends. Lanczos' filter, as wide as the scale asks for, so it is antialiased."""
    if picture.size == (size, size):
        return picture
    return ImageOps.fit(picture, (size, size), PillowImage.Resampling.LANCZOS)


def _flatten(picture: PillowImage.Image) -> PillowImage.Image:
    """The picture without transparency, palette or more than 8 bits; its EXIF stays."""
    exif = picture.getexif()
    clear = picture.info.get("transparency")
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).clip(0, 65535).astype(np.uint32)
        if isinstance(clear, int):
            levels[levels == clear] = 0
        flat = PillowImage.fromarray(((levels + 128) // 257).astype(np.uint8))
    elif picture.mode in ("LA", "PA", "RGBA") or clear is not None:
        # Colours multiplied by their opacity are what a black ground shows of them.
        bands = picture.convert("RGBA").convert("RGBa").split()
        flat = PillowImage.merge("RGB", bands[:3])
    else:
        flat = picture.convert("RGB")
    flat.getexif().update(exif)
    return flat
