"""The parts that a PNG, WebP or JPEG file consists of, each read up to its end; nothing is
decompressed. A file that ends before its format says so is refused."""

import re
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from app.errors import UnreadableImageError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Markers of JPEG (ITU-T T.81, table B.1).
SOI, EOI, SOS, APP0, APP1, APP14, COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xFE
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF: a frame of some coding
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
# A marker behind entropy-coded data: neither a stuffed zero nor a restart (B.1.1.5).
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# Fill bytes and the 0xFF of a marker (B.1.1.2): no program writes more than some.
_FILL = re.compile(rb"\xff{1,65536}")


class Segment(NamedTuple):
    """A marker segment of a JPEG; of a scan, with its entropy-coded data."""

    marker: int
    content: memoryview  # after the length; of a scan its header alone
    whole: memoryview


def png_chunks(data: bytes, most: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Kind, content and all bytes of each chunk; what follows IEND is ignored.

    Args:
        data: The file, which begins with ``PNG_SIGNATURE``.
        most: Chunks that it may have.

    Raises:
        UnreadableImageError: it ends before IEND, a checksum is wrong, or there are more chunks.
    """
    place = len(PNG_SIGNATURE)
    for _ in range(most):
        size = int.from_bytes(data[place : place + 4], "big")
        whole = data[place : place + 12 + size]
        if len(whole) < 12 or len(whole) != 12 + size:
            break
        kind, content = whole[4:8], whole[8 : 8 + size]
        if zlib.crc32(whole[4 : 8 + size]) != int.from_bytes(whole[-4:], "big"):
            break
        yield kind, content, whole
        if kind == b"IEND":
            return
        place += len(whole)
    raise UnreadableImageError(f"the picture is not a whole PNG of at most {most} chunks")


def webp_chunks(data: bytes, most: int) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk (RFC 9649, section 2.3).

    Raises:
        UnreadableImageError: it ends before the size in its header, or has more chunks.
    """
    end, place = int.from_bytes(data[4:8], "little") + 8, 12
    if end <= len(data):
        for _ in range(most):
            if place >= end:
                return
            size = int.from_bytes(data[place + 4 : place + 8], "little")
            content = data[place + 8 : place + 8 + size]
            if place + 8 + size > end:
                break
            yield data[place : place + 4], content
            place += 8 + size + size % 2
    raise UnreadableImageError(f"the picture is not a whole WebP of at most {most} chunks")


def jpeg_segments(data: bytes, most: int, head: bool = False) -> Iterator[Segment]:
    """Each marker segment between SOI and EOI; what follows EOI is ignored.

    Args:
        data: The file, which begins with SOI.
        most: Segments that it may have.
        head: Stop at the header of the first scan.

    Raises:
        UnreadableImageError: it ends before EOI, or has more segments.
    """
    view, place = memoryview(data), 2
    for _ in range(most):
        filled = _FILL.match(data, place)
        if not filled or filled.end() >= len(data):
            break
        place = filled.end() - 1
        marker = data[place + 1]
        if marker == 0xFF:
            break
        if marker == EOI:
            return
        size = int.from_bytes(data[place + 2 : place + 4], "big")
        end = place + 2 + size
        if size < 2 or end > len(data):
            break
        content = view[place + 4 : end]
        if marker == SOS and head:
            yield Segment(marker, content, view[place:end])
            return
        if marker == SOS:
            following = _MARKER.search(data, end)
            if following is None:
                break
            end = following.start()
        yield Segment(marker, content, view[place:end])
        place = end
    raise UnreadableImageError(f"the picture is not a whole JPEG of at most {most} segments")
