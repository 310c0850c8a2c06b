"""Pictures to send: files, bytes, Pillow's images, arrays."""

import base64
import os
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

File: TypeAlias = str | os.PathLike[str] | bytes  # a path, or what a file holds
# PNG, JPEG or WebP; an array is (H, W) grey or (H, W, 3) RGB in uint8, black = 0
Picture: TypeAlias = File | PillowImage.Image | NDArray[np.uint8]


def file_bytes(file: File) -> bytes:
    """What a file holds.

    Raises:
        OSError: it cannot be read.
    """
    return file if isinstance(file, bytes) else Path(file).read_bytes()


def picture_bytes(picture: Picture) -> bytes:
    """A picture as a file, as it is if it is one.

    Raises:
        OSError: a file cannot be read.
        ValueError: an array is of another shape or type.
    """
    if isinstance(picture, np.ndarray):
        picture = PillowImage.fromarray(checked(picture))
    if isinstance(picture, PillowImage.Image):
        if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):  # which a PNG cannot hold
            picture = picture.convert("RGB")
        out = BytesIO()
        picture.save(out, "PNG")
        return out.getvalue()
    return file_bytes(picture)


def checked(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The array, if it is a picture."""
    grey_or_rgb = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not grey_or_rgb or not array.size:
        raise ValueError(
            f"an array {array.shape} of {array.dtype} is no picture; "
            "allowed: (H, W) or (H, W, 3) of uint8, such as (x * 255).round().astype('uint8')"
        )
    return array


def base64_text(data: bytes) -> str:
    """For JSON."""
    return base64.b64encode(data).decode()


def media_type(data: bytes) -> str:
    """The type of a picture file, by its first bytes."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/jpeg" if data[:3] == b"\xff\xd8\xff" else "image/png"
