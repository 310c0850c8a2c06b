"""A file's pixels beside those that are expected of it."""

from typing import NamedTuple

import numpy as np

from app.formats.pixels import Image, enlarged
from app.formats.reading.decoding import opened
from app.formats.reading.picture_header import (
    DecodingLimits,
    PictureHeader,
    check_header,
    read_header,
)

_BAND = 2**20  # pixels that are compared at a time


class PixelComparison(NamedTuple):
    """What a file shows, and how far it is from what was expected."""

    width: int  # pixels
    height: int
    different_pixels: int = 0  # both 0 where the size is another
    largest_difference: int = 0  # grey levels


def check_comparable(data: bytes, limits: DecodingLimits) -> PictureHeader:
    """The header of a PNG or WebP whose size is within bounds.

    Raises:
        UnreadableImageError, BodyTooLargeError
    """
    header = read_header(data)
    check_header(header, len(data), limits, enough=max(header.width, header.height))
    return header


def compare_pixels(
    data: bytes, expected: Image, scale: int, limits: DecodingLimits
) -> PixelComparison | None:
    """Compare every pixel of a PNG or WebP of one frame with an image.

    Args:
        data: The file.
        expected: (H, W), (H, W, 3) or (H, W, 4), before it is enlarged by ``scale``.
        scale: Each pixel of it is that many pixels wide and high in the file.
        limits: What the file may be.

    Returns:
        None = such bytes cannot hold the picture: it has more than 8 bits a channel, or is
        transparent anywhere and the image has no alpha.

    Raises:
        UnreadableImageError, BodyTooLargeError: as ``opened``.
    """
    header = check_comparable(data, limits)
    size = header.width, header.height
    alpha = expected.ndim == 3 and expected.shape[2] == 4
    with opened(data, header, limits) as (picture, _):
        picture.load()
        if picture.mode.startswith(("I", "F")):
            return None
        is_expected = size == (expected.shape[1] * scale, expected.shape[0] * scale)
        count = largest = 0
        rows = scale * max(1, _BAND // (header.width * scale))  # whole rows of ``expected``
        for top in range(0, header.height, rows):
            bottom = min(header.height, top + rows)
            rgba = np.asarray(picture.crop((0, top, header.width, bottom)).convert("RGBA"))
            if not alpha and (rgba[..., 3] != 255).any():
                return None
            if is_expected:
                shown = rgba if alpha else rgba[..., :3]
                large = enlarged(expected[top // scale : -(-bottom // scale)], scale)
                large = large if large.ndim == 3 else large[..., None]
                levels = (np.maximum(shown, large) - np.minimum(shown, large)).max(axis=2)
                count += int(np.count_nonzero(levels))
                largest = max(largest, int(levels.max()))
    return PixelComparison(*size, count, largest)
