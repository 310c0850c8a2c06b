"""What a caller passes in (files, pictures, points in the latent space) and how it is sent."""

import base64
import os
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from genserve.results import Image, Images

FileInput: TypeAlias = str | os.PathLike[str] | bytes  # a path, or a file's content
# PNG, JPEG or WebP; an array is (H, W) grey or (H, W, 3) RGB in uint8, black = 0
PictureInput: TypeAlias = FileInput | PillowImage.Image | NDArray[np.uint8] | Image
# One, or several: the images of a response, or an array (n, H, W) or (n, H, W, 3)
PicturesInput: TypeAlias = PictureInput | Images
# A seed, a latent (floating-point numbers), or a picture for a VAE to encode
LatentInput: TypeAlias = int | PictureInput | NDArray[np.floating[Any]] | Sequence[float]

_NOT_IN_PNG = ("CMYK", "YCbCr", "LAB", "HSV", "RGBX")  # Pillow's modes that a PNG cannot hold


def file_bytes(file: FileInput) -> bytes:
    """A file's content.

    Raises:
        OSError: it cannot be read.
    """
    return file if isinstance(file, bytes) else Path(file).read_bytes()


def picture_bytes(picture: PictureInput) -> bytes:
    """A picture as a file: files stay as they are, arrays and Pillow's images become PNG.

    Raises:
        OSError: a file cannot be read.
        ValueError: an array has the wrong shape or type.
    """
    if isinstance(picture, Image):
        return picture.png
    if isinstance(picture, np.ndarray):
        picture = PillowImage.fromarray(check_picture(picture))
    if isinstance(picture, PillowImage.Image):
        if picture.mode in _NOT_IN_PNG:
            picture = picture.convert("RGB")
        out = BytesIO()
        picture.save(out, "PNG")
        return out.getvalue()
    return file_bytes(picture)


def each_picture(pictures: Iterable[PicturesInput]) -> list[PictureInput]:
    """The single pictures of what may be several."""
    single: list[PictureInput] = []
    for given in pictures:
        if isinstance(given, Images):
            single += given
        elif isinstance(given, np.ndarray) and (
            given.ndim == 4 or (given.ndim == 3 and given.shape[2] not in (3, 4))
        ):
            single += list(given)
        else:
            single.append(given)
    return single


def check_picture(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The array itself, if it is a picture.

    Raises:
        ValueError: it has the wrong shape or type.
    """
    grey_or_rgb = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not grey_or_rgb or not array.size:
        raise ValueError(
            f"an array {array.shape} of {array.dtype} is not a picture; "
            "allowed: (H, W) or (H, W, 3) of uint8, such as (x * 255).round().astype('uint8')"
        )
    return array


def base64_picture(picture: PictureInput) -> str:
    """A picture for a JSON body."""
    return base64.b64encode(picture_bytes(picture)).decode()


def latent_source(latent: LatentInput) -> dict[str, object]:
    """A point in the latent space for a JSON body: ``seed``, ``z`` or ``image``.

    Raises:
        OSError, ValueError: a picture cannot be read.
        ValueError: it is a bool, which Python counts among the integers.
    """
    if isinstance(latent, bool):
        raise ValueError(f"{latent} is not allowed here; allowed: a seed, a latent, a picture")
    if isinstance(latent, int | np.integer):
        return {"seed": int(latent)}
    if isinstance(latent, np.ndarray):
        if latent.ndim == 1:
            return {"z": [float(number) for number in latent]}
        return {"image": base64_picture(check_picture(latent))}
    if isinstance(latent, Sequence) and not isinstance(latent, str | bytes):
        return {"z": [float(number) for number in latent]}
    return {"image": base64_picture(latent)}


def media_type(data: bytes) -> str:
    """Media type of a picture file, by its first bytes; PNG if unknown."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/jpeg" if data[:3] == b"\xff\xd8\xff" else "image/png"
