"""Pixels to PNG (PNG specification, third edition, sections 5 to 11).

Written here because every image of the service passes through it. Small images are stored without
compression. For others zlib looks for runs of equal bytes alone: digits are mostly black, and a row
that repeats the one above is written as its difference, a run of zeros. The file is as small as
with zlib's usual search, and written faster.
"""

import struct
import zlib
from functools import lru_cache

import numpy as np

from app.formats.pixels import Image

# Bytes of pixels up to which a PNG is stored: with its headers the response fits one packet either
# way, and compressing takes four times as long.
_STORED = 900
_UP = 2  # filter of a row: differences from the row above


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG: length, kind, data, CRC-32."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_END = png_chunk(b"IEND", b"")


@lru_cache(256)
def _start(width: int, height: int, channels: int) -> bytes:
    """Signature and header chunk of an 8-bit image."""
    colour_type = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)


@lru_cache(256)
def _stored_start(width: int, height: int, channels: int) -> tuple[bytes, int]:
    """The data chunk of an uncompressed PNG up to its pixels, and the CRC-32 of that.

    Source: RFC 1950; RFC 1951 section 3.2.4 (one stored block).
    """
    size = height * (width * channels + 1)
    lead = b"IDAT\x78\x01\x01" + struct.pack("<HH", size, size ^ 0xFFFF)
    length = struct.pack(">I", len(lead) - 4 + size + 4)
    return length + lead, zlib.crc32(lead)


def to_png(image: Image, scale: int = 1, chunks: bytes = b"") -> bytes:
    """An 8-bit PNG.

    Args:
        image: (H, W), (H, W, 3), or with alpha (H, W, 4).
        scale: Each pixel is drawn this many times as wide and high.
        chunks: Whole chunks to put before the pixels.
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
            head = _start(width, height, channels)
            return b"".join((head, chunks, start, pixels, check, crc.to_bytes(4, "big"), _END))
    else:
        wide = image.repeat(scale, axis=1).reshape(height, -1)
        raw = np.zeros((height, scale, wide.shape[1] + 1), dtype=np.uint8)
        raw[:, 0, 1:] = wide
        raw[:, 1:, 0] = _UP
    # For a small image a window that holds all of it and small tables: the usual ones are so large
    # that each call may have to ask the system for memory.
    window, memory = (12, 4) if raw.size <= 4096 else (15, 8)
    deflate = zlib.compressobj(1, zlib.DEFLATED, window, memory, zlib.Z_RLE)
    data = deflate.compress(raw.data) + deflate.flush()
    start = _start(width * scale, height * scale, channels)
    return start + chunks + png_chunk(b"IDAT", data) + _END
