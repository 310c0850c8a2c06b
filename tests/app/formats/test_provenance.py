"""Recipes in files: written, read back, and refused where they are not of the one form."""

import hashlib
import json
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from app.errors import NoRecipeError, ServiceError, UnreadableImageError
from app.formats.png import png_chunk, to_png
from app.formats.provenance import (
    FROM_UPLOAD,
    GENERATED,
    RECIPE,
    PictureMetadata,
    read_recipe,
    recipe_start,
)
from app.formats.webp import to_webp
from app.seeds import MAX_SEED, list_text

DIGEST = "0123456789abcdef" * 4
START = recipe_start("tiny-cgan-v1", DIGEST, 7, 1.0, "grid", 1)
METADATA = PictureMetadata(GENERATED, START, "42")
IMAGE = np.arange(784, dtype=np.uint8).reshape(28, 28)


def test_the_bytes_of_a_marked_png_never_change() -> None:
    """From version 1 of the recipe on; a change of these bytes needs another version."""
    digests = [
        hashlib.sha256(to_png(IMAGE, chunks=metadata.png())).hexdigest()[:16]
        for metadata in (METADATA, PictureMetadata(GENERATED), PictureMetadata(FROM_UPLOAD))
    ]
    assert digests == ["ef32388fcb484515", "093b3843c38a8afd", "854e196428e16b4c"]


@given(
    seeds=st.lists(st.integers(0, MAX_SEED), min_size=1, max_size=5),
    label=st.none() | st.integers(0, 99),
    hundredths=st.integers(0, 100),
    scale=st.integers(1, 16),
)
def test_a_recipe_is_read_back_as_it_was_written(
    seeds: list[int], label: int | None, hundredths: int, scale: int
) -> None:
    start = recipe_start("m-1", DIGEST, label, hundredths / 100, "strip", scale)
    metadata = PictureMetadata(GENERATED, start, list_text(seeds))
    for data in (to_png(IMAGE, chunks=metadata.png()), to_webp(IMAGE, 1, metadata.xmp())):
        picture = read_recipe(data)
        assert json.loads(picture.recipe[0])["seeds"] == list_text(seeds)
        assert float(picture.recipe["truncation"]) == hundredths / 100
        assert picture.recipe["label"] == json.dumps(label)
        with PillowImage.open(BytesIO(picture.file)) as decoded:
            decoded.load()


PLAIN = to_png(IMAGE)


def with_chunks(*chunks: bytes) -> bytes:
    return PLAIN[:33] + b"".join(chunks) + PLAIN[33:]


def text_chunk(text: bytes, lead: bytes = bytes(5), kind: bytes = b"iTXt") -> bytes:
    return png_chunk(kind, b"genserve" + lead + text)


OURS = f'{START}42"}}'.encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (PLAIN, "no recipe"),
        (to_webp(IMAGE), "no recipe"),
        (with_chunks(text_chunk(OURS), text_chunk(OURS)), "2 recipes"),
        (with_chunks(text_chunk(OURS + b" ")), "form"),
        (with_chunks(text_chunk(b"{}")), "form"),
        (with_chunks(text_chunk(b"")), "form"),
        (with_chunks(text_chunk(OURS.replace(b'"label":7', b'"label":07'))), "form"),
        (with_chunks(text_chunk(OURS.replace(b'"seeds":"42"', b'"seeds":"42\xff"'))), "form"),
        (with_chunks(text_chunk(OURS.replace(b":1,", b":2,", 1))), "version 2; read is 1"),
        # Compressed text is not read, so it cannot grow.
        (with_chunks(text_chunk(zlib.compress(OURS), b"\0\1\0\0\0")), "form"),
        (with_chunks(text_chunk(zlib.compress(OURS), b"\0\0", b"zTXt")), "no recipe"),
        (with_chunks(text_chunk(START.encode() + b"1," * 40_000)), "at most 65536"),
        (to_webp(IMAGE, 1, METADATA.xmp() + METADATA.xmp()), "2 recipes"),
    ],
)
def test_no_recipe_but_ours_is_read(data: bytes, says: str) -> None:
    with pytest.raises(NoRecipeError, match=says):
        read_recipe(data)


WHOLE = to_png(IMAGE, chunks=METADATA.png())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"GIF89a" + bytes(40),
        WHOLE[:-1],
        WHOLE[:100],
        WHOLE[:60] + b"!" + WHOLE[61:],
        WHOLE[:8] + b"\xff\xff\xff\xff" + WHOLE[12:],
        PLAIN[:33] + png_chunk(b"tEXt", b"") * 70_000 + PLAIN[33:],
        b"RIFF\xff\xff\xff\x7fWEBPXMP \xff\xff\xff\x7f",
    ],
)
def test_a_broken_file_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableImageError):
        read_recipe(data)


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_changed_byte_changes_no_recipe_unseen(place: int, value: int) -> None:
    """Every byte of a PNG's chunks is under a checksum."""
    data = WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :]
    try:
        picture = read_recipe(data)
    except ServiceError:
        return
    assert picture.recipe[0] == OURS.decode()


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for lead in (b"", b"\x89PNG\r\n\x1a\n", b"RIFF\x50\0\0\0WEBP"):
        with pytest.raises(ServiceError):
            read_recipe(lead + data)


def test_the_form_is_json() -> None:
    recipe = RECIPE.fullmatch(OURS.decode())
    assert recipe is not None
    assert json.loads(recipe[0])["digest"] == DIGEST
