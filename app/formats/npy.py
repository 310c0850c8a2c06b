"""Arrays as NumPy's npy files (npy format 1.0)."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np

from app.formats.pixels import Image, pixel_bytes


def npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """The bytes before the data of an array in C order."""
    out = BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue()


def to_npy(images: Sequence[Image]) -> bytes:
    """The npy file of (n, H, W[, C]) uint8."""
    return npy_header((len(images), *images[0].shape), "|u1") + pixel_bytes(images)
