"""Pixels to PNG and WebP, and pixels to one sheet."""

import math
import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import __version__ as pillow_version
from PIL import features
from PIL.PngImagePlugin import PngInfo

Image = NDArray[np.uint8]  # (H, W) grey or (H, W, 3) RGB
Layout = Literal["grid", "strip", "animation"]
MAX_WEBP_SIDE = 16383  # pixels: a side is written in 14 bits
# What the bytes of pictures depend on besides their pixels.
WRITERS = (
    f"zlib {zlib.ZLIB_RUNTIME_VERSION}, libwebp {features.version('webp')}, Pillow {pillow_version}"
)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG, whole."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@lru_cache(256)
def _png_start(width: int, height: int, channels: int) -> bytes:
    """Signature and header chunk of an 8-bit image."""
    colour_type = 0 if channels == 1 else 2
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)


_PNG_END = png_chunk(b"IEND", b"")
_UP = 2  # a row's filter: differences from the row above


# Bytes of pixels up to which a PNG is not compressed: with its headers the answer is one packet
# either way, and compressing takes four times as long (docs/log.md).
_STORED = 900


@lru_cache(256)
def _stored_start(width: int, height: int, channels: int) -> tuple[bytes, int]:
    """What comes before the pixels in the one data chunk of an uncompressed PNG, and the checksum
    of that (RFC 1950, RFC 1951 section 3.2.4)."""
    size = height * (width * channels + 1)
    lead = b"IDAT\x78\x01\x01" + struct.pack("<HH", size, size ^ 0xFFFF)
    length = struct.pack(">I", len(lead) - 4 + size + 4)
    return length + lead, zlib.crc32(lead)


def to_png(image: Image, scale: int = 1, told: bytes = b"") -> bytes:
    """An 8-bit PNG (PNG specification, third edition, sections 5 to 11), each pixel drawn ``scale``
    times as wide and high, with the chunks ``told`` before its pixels.

    Written here because it is on the path of every image. Small images are stored. In others runs
    of equal bytes are all that is looked for: digits are mostly black, and a row that repeats the
    one above it is written as its difference, a run of zeros. That is as small as zlib's usual
    search makes them, and faster.
    """
    height, width = image.shape[:2]
    rows = image.reshape(height, -1)
    channels = rows.shape[1] // width
    if scale == 1:
        raw = np.zeros((height, rows.shape[1] + 1), dtype=np.uint8)  # filter 0: as they are
        raw[:, 1:] = rows
        if raw.size <= _STORED:
            start, crc = _stored_start(width, height, channels)
            pixels = raw.tobytes()
            check = zlib.adler32(pixels).to_bytes(4, "big")
            crc = zlib.crc32(check, zlib.crc32(pixels, crc))
            head = _png_start(width, height, channels)
            return b"".join((head, told, start, pixels, check, crc.to_bytes(4, "big"), _PNG_END))
    else:
        wide = image.repeat(scale, axis=1).reshape(height, -1)
        raw = np.zeros((height, scale, wide.shape[1] + 1), dtype=np.uint8)
        raw[:, 0, 1:] = wide
        raw[:, 1:, 0] = _UP
    # For a small image a window that holds all of it and small tables: the usual ones are so large
    # that each call may have to ask the system for them anew.
    window, memory = (12, 4) if raw.size <= 4096 else (15, 8)
    deflate = zlib.compressobj(1, zlib.DEFLATED, window, memory, zlib.Z_RLE)
    data = deflate.compress(raw.data) + deflate.flush()
    start = _png_start(width * scale, height * scale, channels)
    return start + told + png_chunk(b"IDAT", data) + _PNG_END


def joined(images: Sequence[Image]) -> bytes:
    """The pixels of images in C order, one after the other: faster than any way to stack arrays."""
    return b"".join(images)  # type: ignore[arg-type]  # arrays are buffers; .data costs more


def to_webp(image: Image, scale: int = 1, xmp: bytes = b"") -> bytes:
    """A lossless WebP, each pixel drawn ``scale`` times as wide and high, 16383 pixels a side at
    most, with an XMP packet if there is one."""
    out = BytesIO()
    large = image.repeat(scale, axis=0).repeat(scale, axis=1)
    # Method 0 is the fastest; grey becomes RGB, which WebP has alone.
    rgb = PillowImage.fromarray(large).convert("RGB")
    rgb.save(out, "WEBP", lossless=True, method=0, xmp=xmp)
    return out.getvalue()


def to_animation(
    images: Sequence[Image], media: str, scale: int, frame_ms: int, xmp: bytes = b""
) -> bytes:
    """An animated PNG or a lossless animated WebP that shows one image after the other for ever.

    Args:
        images: The frames, all of one shape.
        media: ``image/png`` or ``image/webp``.
        scale: Each pixel is drawn so many times as wide and high.
        frame_ms: Milliseconds that each frame is shown.
        xmp: A packet to put in.
    """
    first, *others = (
        PillowImage.fromarray(image.repeat(scale, axis=0).repeat(scale, axis=1)) for image in images
    )
    shown = {"save_all": True, "append_images": others, "duration": frame_ms, "loop": 0}
    out = BytesIO()
    if media == "image/webp":
        first.save(out, "WEBP", lossless=True, method=0, xmp=xmp, **shown)
    else:
        told = PngInfo()
        if xmp:
            told.add_itxt("XML:com.adobe.xmp", xmp.decode())
        first.save(out, "PNG", compress_level=1, pnginfo=told, **shown)
    return out.getvalue()


def places(count: int, layout: Layout, columns: int | None = None) -> tuple[int, int]:
    """Rows and columns of a picture of ``count`` images.

    Args:
        count: Images.
        layout: How they are arranged; of an animation, each is the whole picture.
        columns: Of a grid; None = ceil(sqrt(count)).
    """
    if layout == "animation":
        return 1, 1
    if columns is None:
        columns = math.ceil(math.sqrt(count))
    if layout == "strip":
        columns = count
    return math.ceil(count / columns), columns


def sheet(images: Sequence[Image], layout: Layout = "grid", columns: int | None = None) -> Image:
    """One image as it is, several as a grid or as one row (see ``places``). Places that are left
    over are black."""
    if len(images) == 1:
        return images[0]
    rows, columns = places(len(images), layout, columns)
    height, width, *colour = images[0].shape
    blank = bytes((rows * columns - len(images)) * images[0].size)
    filled = np.frombuffer(joined(images) + blank, dtype=np.uint8)
    # (rows, columns, H, W[, 3]) -> (rows, H, columns, W[, 3])
    grid = filled.reshape(rows, columns, height, width, *colour).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, *colour)


def npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """What stands before the data of an array in C order, in npy format 1.0."""
    out = BytesIO()
    told = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, told)
    return out.getvalue()


def to_npy(images: Sequence[Image]) -> bytes:
    """The npy form of (n, H, W[, 3]) uint8."""
    return npy_header((len(images), *images[0].shape), "|u1") + joined(images)
