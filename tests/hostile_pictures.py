"""Pictures made to harm, or that no program writes, for the table of ``tests.hostile``: by their
chunks and segments, with what each is answered."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from app.formats.png import png_chunk

PNG, JPEG, WEBP = "image/png", "image/jpeg", "image/webp"
GOOD, UNREADABLE, LARGE = (200, ""), (422, "unreadable-image"), (413, "body-too-large")

_NOISE = np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)
_ROWS = zlib.compress(bytes(29 * 28))
_IDAT = (b"IDAT", _ROWS)


def _file(mode: str, side: int, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    PillowImage.fromarray(_NOISE).convert(mode).resize((side, side)).save(out, kind, **options)
    return out.getvalue()


def _png(*chunks: tuple[bytes, bytes], head: tuple[int, ...] = (28, 28, 8, 0, 0, 0, 0)) -> bytes:
    """``head``: width, height, depth, colour type, compression, filter, interlacing."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *head)), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def _typed(depth: int, colour: int) -> bytes:
    return _png((b"IDAT", zlib.compress(bytes(28 * 9 * 28))), head=(28, 28, depth, colour, 0, 0, 0))


_PALETTE = (28, 28, 8, 3, 0, 0, 0)
_DICTIONARY = zlib.compressobj(9, zlib.DEFLATED, 15, 9, 0, b"x" * 100)
_PNGS: list[tuple[str, bytes, tuple[int, str]]] = [
    (
        "pixels in 8,000 pieces",
        _png(*[(b"IDAT", bytes([byte])) for byte in _ROWS], *[(b"IDAT", b"")] * 8000),
        GOOD,
    ),
    ("8,000 transparencies", _png(*[(b"tRNS", b"\0a")] * 8000, _IDAT), GOOD),
    ("a transparency of one byte", _png((b"tRNS", b"a"), _IDAT), UNREADABLE),
    ("a transparency of 1 MB", _png((b"tRNS", bytes(10**6)), _IDAT), GOOD),
    ("a palette of 1 MB", _png((b"PLTE", bytes(10**6)), _IDAT, head=_PALETTE), UNREADABLE),
    ("a palette of four bytes", _png((b"PLTE", b"abcd"), _IDAT, head=_PALETTE), GOOD),
    ("no palette", _png(_IDAT, head=_PALETTE), GOOD),
    ("depth 3", _typed(3, 0), UNREADABLE),
    ("a palette of 16 bits", _typed(16, 3), UNREADABLE),
    ("colour type 5", _typed(8, 5), UNREADABLE),
    ("16 bits with alpha", _typed(16, 6), GOOD),
    ("filter method 1", _png(_IDAT, head=(28, 28, 8, 0, 0, 1, 0)), UNREADABLE),
    ("interlacing 2", _png(_IDAT, head=(28, 28, 8, 0, 0, 0, 2)), UNREADABLE),
    ("interlaced, too little", _png(_IDAT, head=(900, 900, 8, 0, 0, 0, 1)), UNREADABLE),
    (
        "a filter 9",
        _png((b"IDAT", zlib.compress((b"\x09" + bytes(28)) * 28))),
        UNREADABLE,
    ),
    (
        "a dictionary",
        _png((b"IDAT", _DICTIONARY.compress(bytes(812)) + _DICTIONARY.flush())),
        UNREADABLE,
    ),
    (
        "a second header",
        _png((b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)), _IDAT),
        UNREADABLE,
    ),
    ("Apple's", b"\x89PNG\r\n\x1a\n" + png_chunk(b"CgBI", bytes(4)) + _png(_IDAT)[8:], UNREADABLE),
    ("a text of 1 MB", _png((b"iTXt", b"k\0\0\0\0\0" + b"a" * 10**6), _IDAT), GOOD),
    (
        "directories of EXIF in a circle",
        _png(
            (b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 0x8769, 4, 1, 8) * 5000),
            _IDAT,
        ),
        GOOD,
    ),
    (
        "2^31 frames that are not there",
        _png((b"acTL", struct.pack(">II", 2**31 - 1, 0)), (b"fcTL", b"x"), _IDAT),
        GOOD,
    ),
    (
        "a frame beyond the picture",
        _png(
            (b"acTL", struct.pack(">II", 2, 0)),
            (b"fcTL", struct.pack(">5IHHBB", 0, *[2**30] * 4, 1, 1, 0, 0)),
            _IDAT,
        ),
        GOOD,
    ),
    ("a script behind it", _png(_IDAT) + b"<script>" * 1000, GOOD),
]

_BASE = _file("RGB", 200, "JPEG")
_SOF = _BASE.index(b"\xff\xc0")


def _patched(at: int, new: bytes) -> bytes:
    """The JPEG with other bytes in its frame header; ``at``: from its marker."""
    return _BASE[: _SOF + at] + new + _BASE[_SOF + at + len(new) :]


_JPEGS: list[tuple[str, bytes, tuple[int, str]]] = [
    ("four inks", _file("CMYK", 28, "JPEG"), GOOD),
    ("a restart at each block", _file("L", 300, "JPEG", restart_marker_blocks=1), GOOD),
    ("progressive", _file("RGB", 300, "JPEG", progressive=True, restart_marker_rows=1), GOOD),
    *((f"frame type {kind}", _patched(1, bytes([0xC0 + kind])), UNREADABLE) for kind in (3, 5, 10)),
    ("12 bits", _patched(4, b"\x0c"), UNREADABLE),
    ("no height", _patched(5, b"\0\0"), UNREADABLE),
    ("no width", _patched(7, b"\0\0"), UNREADABLE),
    ("65,535 x 65,535", _patched(5, b"\xff" * 4), LARGE),
    ("sampled 0 times", _patched(11, b"\0"), UNREADABLE),
    ("sampled 15 times", _patched(11, b"\xff"), UNREADABLE),
    ("255 components", _patched(9, b"\xff"), UNREADABLE),
    (
        "a second, larger frame",
        _BASE[: _SOF + 19] + _patched(5, b"\x27\x10\x27\x10")[_SOF:],
        UNREADABLE,
    ),
    (
        "1,000 tables",
        _BASE[:2] + (b"\xff\xdb\0\x43\0" + bytes(range(1, 65))) * 1000 + _BASE[2:],
        UNREADABLE,
    ),
    ("8,000 comments", _BASE[:2] + b"\xff\xfe\0\2" * 8000 + _BASE[2:], UNREADABLE),
    (
        "a profile in 60 pieces",
        _BASE[:2] + (b"\xff\xe2\x75\x32" + bytes(30_000)) * 60 + _BASE[2:],
        GOOD,
    ),
    ("fill bytes", b"\xff\xd8" + b"\xff" * 2_000_000 + b"\xd9", UNREADABLE),
    ("fill bytes before a marker", b"\xff\xd8" + b"\xff" * 1000 + _BASE[2:], GOOD),
    ("restarts behind the pixels", _BASE[:-2] + b"\xff\xd0" * 900_000 + b"\xff\xd9", GOOD),
    ("zeros behind the pixels", _BASE[:-2] + b"\xff\0" * 900_000 + b"\xff\xd9", GOOD),
    ("a second start", b"\xff\xd8" * 2 + _BASE[2:], UNREADABLE),
]


def _webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    sides = b"".join(struct.pack("<I", side - 1)[:3] for side in (width, height))
    return b"VP8X", bytes([flags, 0, 0, 0]) + sides


_LOSSY = (b"VP8 ", _file("RGB", 64, "WEBP")[20:])
_WEBPS: list[tuple[str, bytes, tuple[int, str]]] = [
    ("a canvas of 2^24 x 2^24", _webp(_canvas(2**24, 2**24), _LOSSY), LARGE),
    ("a canvas smaller than its picture", _webp(_canvas(8, 8), _LOSSY), UNREADABLE),
    (
        "a frame beyond its canvas",
        _webp(
            _canvas(64, 64, 2),
            (b"ANIM", bytes(6)),
            (
                b"ANMF",
                b"\xff" * 6
                + bytes(6)
                + b"\1\0\0\0VP8 "
                + struct.pack("<I", len(_LOSSY[1]))
                + _LOSSY[1],
            ),
        ),
        UNREADABLE,
    ),
    ("8,000 chunks", _webp(_canvas(64, 64), *[(b"XMP ", b"")] * 8000, _LOSSY), GOOD),
    ("two pictures", _webp(_LOSSY, _LOSSY), GOOD),
    ("a profile of 1 MB", _webp(_canvas(64, 64, 32), (b"ICCP", bytes(10**6)), _LOSSY), GOOD),
    (
        "opacity of nothing",
        _webp(_canvas(64, 64, 16), (b"ALPH", b"\1" + bytes(10**5)), _LOSSY),
        UNREADABLE,
    ),
    (
        "EXIF of 65,535 entries",
        _webp(_canvas(64, 64, 8), _LOSSY, (b"EXIF", b"MM\0*\0\0\0\x08\xff\xff" + b"\1" * 6000)),
        GOOD,
    ),
]
_OTHERS: list[tuple[str, bytes, tuple[int, str]]] = [
    ("a BMP of 2^31 x 2^31", b"BM" + struct.pack("<IHHIIii", 70, 0, 0, 54, 40, -1, -1), UNREADABLE),
    ("a TIFF of 65,535 tags", b"II*\0\x08\0\0\0\xff\xff" + bytes(70_000), UNREADABLE),
    (
        "a GIF of 10,000 frames",
        b"GIF89a\2\0\2\0\0\0\0" + b",\0\0\0\0\2\0\2\0\0\2\2L\1\0" * 10_000,
        UNREADABLE,
    ),
]

# (name, Content-Type, body, status, slug)
PICTURES: list[tuple[str, str, bytes, int, str]] = [
    (f"{prefix}: {name}", kind, data, *answer)
    for prefix, kind, rows in (
        ("png", PNG, _PNGS),
        ("jpeg", JPEG, _JPEGS),
        ("webp", WEBP, _WEBPS),
        ("other", PNG, _OTHERS),
    )
    for name, data, answer in rows
]
