"""Images as arrays, before a format makes a file of them."""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import __version__ as pillow_version
from PIL import features

Image = NDArray[np.uint8]  # (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA
# The libraries that decide a file's bytes besides its pixels, for entity tags.
ENCODER_VERSIONS = (
    f"zlib {zlib.ZLIB_RUNTIME_VERSION}, libwebp {features.version('webp')}, Pillow {pillow_version}"
)


def enlarged(image: Image, scale: int) -> Image:
    """The image with each pixel drawn ``scale`` times as wide and high."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def pixel_bytes(images: Sequence[Image]) -> bytes:
    """The pixels of images in C order, one image after the other.

    Arrays are buffers, so ``bytes.join`` takes them; it is faster than stacking them first.
    """
    return b"".join(images)  # type: ignore[arg-type]  # a buffer; asking for .data costs more
