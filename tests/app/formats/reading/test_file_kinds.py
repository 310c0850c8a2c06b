"""Files that are no PNG, JPEG or WebP are named in the error."""

from io import BytesIO

import pytest
from PIL import Image as PillowImage

from app.errors import UnreadableImageError
from app.formats.reading.file_kinds import kind_of
from app.formats.reading.picture_header import read_header


def saved(kind: str) -> bytes:
    out = BytesIO()
    PillowImage.new("L", (8, 8)).save(out, kind)
    return out.getvalue()


def iso(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + bytes(64)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (saved("GIF"), "a GIF picture"),
        (saved("TIFF"), "a TIFF picture"),
        (saved("BMP"), "a BMP picture"),
        (saved("PDF"), "a PDF document"),
        (saved("ICO"), "an icon (ICO)"),
        (iso(b"heic"), "a HEIC picture"),
        (iso(b"heix"), "a HEIC picture"),
        (iso(b"mif1"), "a HEIF picture"),
        (iso(b"avif"), "an AVIF picture"),
        (iso(b"mp42"), "a film (ISO base media)"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "an SVG drawing"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- x -->\n<SVG/>", "an SVG drawing"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
        (b"PK\x03\x04" + bytes(40), "a ZIP archive"),
        (b"\x93NUMPY" + bytes(40), "an array of numpy"),
    ],
)
def test_a_known_kind_is_named_with_what_to_send(data: bytes, kind: str) -> None:
    assert kind_of(data) == kind
    with pytest.raises(UnreadableImageError) as refused:
        read_header(data)
    assert refused.value.detail == f"{kind}; send PNG, JPEG or WebP"


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"<", b"ftyp", bytes(40), saved("PNG"), saved("JPEG")]
)
def test_others_are_not(data: bytes) -> None:
    assert kind_of(data) is None
