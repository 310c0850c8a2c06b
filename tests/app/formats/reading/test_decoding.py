"""Files to pixels: what is read of them, and how large pictures are reduced."""

import os
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from app.errors import BodyTooLargeError, UnreadableImageError
from app.fitting.adapt import Fitting
from app.formats.png import png_chunk
from app.formats.reading.picture_header import (
    DecodingLimits,
    PictureHeader,
    check_header,
    read_header,
)
from app.formats.reading.uploads import read_upload
from tests.app.formats.pictures import AUTO, GREY, file_of, seven
from tests.hostile import animation

MIB = 2**20
LIMITS = DecodingLimits()
KINDS = ("PNG", "JPEG", "WEBP")


def photo(kind: str, side: int = 64, **options: Any) -> bytes:
    return file_of(PillowImage.linear_gradient("L").resize((side, side)), kind, **options)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (photo("PNG"), PictureHeader("PNG", 64, 64, 1)),
        (photo("JPEG"), PictureHeader("JPEG", 64, 64, 1)),
        (photo("JPEG", progressive=True), PictureHeader("JPEG", 64, 64, 1, 8192, True)),
        (photo("WEBP"), PictureHeader("WEBP", 64, 64, 16)),
        (photo("WEBP", lossless=True), PictureHeader("WEBP", 64, 64, 16)),
        (photo("WEBP", exif=b"Exif\0\0MM"), PictureHeader("WEBP", 64, 64, 16)),
        (file_of(PillowImage.new("RGB", (33, 17)), "JPEG", progressive=True), None),
    ],
    ids=["png", "jpeg", "progressive", "webp", "lossless", "extended", "colours"],
)
def test_the_first_bytes_say_what_a_picture_takes(
    data: bytes, expected: PictureHeader | None
) -> None:
    # 33 x 17 pixels with colours at half the resolution: 3 x 2 squares of 16 x 16, each 4 + 1 + 1.
    expected = expected or PictureHeader("JPEG", 33, 17, 4, 3 * 2 * 6 * 128, True)
    assert read_header(data) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_ends_too_early_is_refused_wherever_it_ends(kind: str) -> None:
    data = photo(kind, 28)
    assert read_upload(data, GREY, LIMITS).width == 28
    for end in range(len(data)):
        with pytest.raises(UnreadableImageError):
            read_upload(data[:end], GREY, LIMITS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_read_or_refused_and_nothing_else(kind: str) -> None:
    data = photo(kind, 40, **({"progressive": True} if kind == "JPEG" else {}))
    random = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(data)
        for place in random.integers(0, len(data), 3):
            changed[place] = random.integers(256)
        with suppress(UnreadableImageError, BodyTooLargeError):
            read_upload(bytes(changed), GREY, LIMITS)


@pytest.mark.parametrize(
    ("limits", "data", "says"),
    [
        ({"max_pixels": 4000}, photo("PNG"), "64 x 64 = 4096 pixels; at most 4000 pixels"),
        ({"max_side": 63}, photo("WEBP"), "a side may have 63"),
        ({"max_scans": 5}, photo("JPEG", progressive=True), "over 5 scans"),
        ({"max_frames": 3}, animation(4, "PNG"), "4 frames; at most 3"),
        ({"max_frames": 3}, animation(4, "WEBP"), "4 frames; at most 3"),
        (
            {"max_expansion": 99},
            file_of(PillowImage.new("L", (5000, 5000))),
            "25 megapixels in [0-9]+ bytes; a file may unfold to 99 times",
        ),
        (
            {"job_bytes": 17 * MIB},
            photo("WEBP", 300),
            "the memory for one picture, 17 MiB, holds 65536 pixels of such a WEBP",
        ),
    ],
    ids=["pixels", "side", "scans", "apng", "webp", "expansion", "memory"],
)
def test_each_limit_is_told(limits: dict[str, int], data: bytes, says: str) -> None:
    with pytest.raises(BodyTooLargeError, match=says):
        read_upload(data, GREY, DecodingLimits(**limits))
    read_upload(data, GREY, LIMITS)


def test_compressed_texts_share_a_limit() -> None:
    text = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1000)))
    whole = photo("PNG")
    data = whole[:33] + text * 3 + whole[33:]
    read_upload(data, GREY, DecodingLimits(max_metadata_bytes=3000))
    with pytest.raises(UnreadableImageError, match="over 2999 bytes"):
        read_upload(data, GREY, DecodingLimits(max_metadata_bytes=2999))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(9))
def test_every_orientation_is_turned_upright(kind: str, orientation: int) -> None:
    picture = PillowImage.new("L", (40, 28))
    picture.paste(255, (0, 0, 13, 9))
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"exif": exif.tobytes()}
    options |= {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    upload = read_upload(file_of(picture, kind, **options), GREY, LIMITS)
    corner = {2: (0, 1), 3: (1, 1), 4: (1, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
    down, right = corner.get(orientation, (0, 0))
    halves = upload.image.astype(float).reshape(2, 14, 2, 14).mean(axis=(1, 3))
    assert np.unravel_index(halves.argmax(), (2, 2)) == (down, right)
    assert ("turned upright" in upload.steps) == (orientation >= 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_a_large_picture_becomes_what_a_small_one_does(kind: str, mode: str) -> None:
    if kind == "JPEG" and mode not in ("L", "RGB"):
        pytest.skip("JPEG has no such mode")
    small, large = (seven().resize((side, side)) for side in (800, 3200))
    uploads = [
        read_upload(file_of(picture.convert(mode), kind), GREY, LIMITS, AUTO)
        for picture in (small, large)
    ]
    assert uploads[0].steps == uploads[1].steps == ("inverted", "centred")
    difference = uploads[0].image.astype(int) - uploads[1].image
    assert abs(difference).mean() < 3


@pytest.mark.parametrize(
    ("size", "options"),
    [((5712, 4284), {}), ((8160, 6120), {}), ((8160, 6120), {"progressive": True})],
    ids=["24 megapixels", "50 megapixels", "50 megapixels, progressive"],
)
def test_the_photos_of_todays_phones_are_within_the_limits(
    size: tuple[int, int], options: dict[str, Any]
) -> None:
    data = file_of(PillowImage.new("RGB", size, (200, 190, 180)), "JPEG", **options)
    upload = read_upload(data, (3, 28, 28), LIMITS, Fitting("no", "auto"))
    assert (upload.width, upload.height) == size
    assert abs(int(upload.image[14, 14, 0]) - 200) <= 2
    header = read_header(data)
    assert header.memory(532) < 200 * MIB


def test_what_does_not_fit_into_memory_is_told_in_megapixels() -> None:
    header = PictureHeader("WEBP", 6000, 5000, 16)
    with pytest.raises(BodyTooLargeError, match=r"30 megapixels.* 320 MiB, holds 19\.9 megapixels"):
        check_header(header, 10**6, LIMITS, 532)


def test_only_the_orientation_of_exif_reaches_the_decoder() -> None:
    """A JPEG's other segments, and a PNG's texts, are taken out before it."""
    exif = PillowImage.Exif()
    exif[0x0112] = 3
    data = photo("JPEG", exif=exif.tobytes(), icc_profile=os.urandom(70_000), comment=b"a" * 9000)
    broken = data.replace(b"ICC_PROFILE\0\1", b"ICC_PROFILE\0\xff")
    upload = read_upload(broken, GREY, LIMITS)
    assert "turned upright" in upload.steps
    lying = photo("PNG")
    text = png_chunk(b"eXIf", b"MM\0*" + struct.pack(">I", 2**31))
    assert read_upload(lying[:33] + text + lying[33:], GREY, LIMITS).steps == ("fitted",)
