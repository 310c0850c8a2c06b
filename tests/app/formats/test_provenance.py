"""What pictures say of themselves, read by others; and what is read back of what others say."""

import base64
import hashlib
import json
import zipfile
import zlib
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import httpx
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
TOLD = PictureMetadata(GENERATED, START, "42")
IMAGE = np.arange(784, dtype=np.uint8).reshape(28, 28)
TAG = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def said(data: bytes) -> tuple[str | None, dict[str, Any] | None]:
    """Source and recipe, as Pillow and an XML parser find them."""
    with PillowImage.open(BytesIO(data)) as picture:
        picture.load()
        xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp")
        text = picture.info.get("genserve")
    if xmp is None:
        return None, None
    tree = ElementTree.fromstring(xmp)
    if text is None and (found := tree.find(".//{urn:x-genserve:1:}recipe")) is not None:
        text = found.text
    source = tree.find(f".//{TAG}")
    assert source is not None
    return source.text, None if text is None else json.loads(text)


async def test_pictures_carry_mark_and_recipe_by_default(client: httpx.AsyncClient) -> None:
    digest = (await client.get("/models/tiny-cgan-v1")).json()["digest"]
    one = {"genserve": 1, "model": "tiny-cgan-v1", "digest": digest, "label": 7, "truncation": 1}
    one |= {"layout": "grid", "scale": 1, "seeds": "42"}
    for more in ("", "&format=webp"):
        plain = await client.get(f"/generate?label=7&seed=42&layout=strip{more}")
        assert said(plain.content) == (GENERATED, one)
        several = await client.get(
            f"/generate?seeds=5,0-2&truncation=0.5&scale=2&layout=strip{more}"
        )
        strip = one | {"label": None, "truncation": 0.5, "layout": "strip", "scale": 2}
        assert said(several.content) == (GENERATED, strip | {"seeds": "5,0-2"})
    drawn = await client.post("/generate")  # the seed that was drawn is told, and the label
    recipe = said(drawn.content)[1]
    assert recipe is not None
    assert recipe["seeds"] == drawn.headers["x-seed"]
    assert f"label={recipe['label']}&" in drawn.headers["content-location"]


async def test_pictures_given_one_by_one_carry_their_own(client: httpx.AsyncClient) -> None:
    query = "seed=5&n=3&scale=2"
    items = (await client.get(f"/generate?{query}&format=json")).json()["items"]
    archive = (await client.get(f"/generate?{query}&format=zip")).content
    with zipfile.ZipFile(BytesIO(archive)) as members:
        pngs = [members.read(name) for name in members.namelist() if name.endswith(".png")]
    assert pngs == [base64.b64decode(item["image"]) for item in items]
    for item, png in zip(items, pngs, strict=True):
        recipe = said(png)[1]
        assert recipe is not None
        assert (recipe["seeds"], recipe["label"]) == (str(item["seed"]), int(item["label"]))


async def test_metadata_switches_the_recipe_and_separately_the_mark_off(
    client: httpx.AsyncClient,
) -> None:
    for form in ("png", "webp"):
        for metadata, source in (("mark", GENERATED), ("none", None)):
            query = f"/generate?seed=42&format={form}&metadata={metadata}"
            answer = await client.get(query)
            assert said(answer.content) == (source, None)
            place = answer.headers["content-location"]
            assert f"&metadata={metadata}" in place
            assert (await client.get(place)).content == answer.content
    items = (await client.get("/generate?seed=42&format=json&metadata=none")).json()["items"]
    png = base64.b64decode(items[0]["image"])
    assert said(png) == (None, None)
    assert (await client.get(items[0]["permalink"])).content == png


async def test_what_is_made_from_an_upload_is_marked_as_such(client: httpx.AsyncClient) -> None:
    for form in ("png", "webp"):
        rebuilt = await client.post(
            f"/reconstruct?format={form}",
            content=to_png(IMAGE),
            headers={"content-type": "image/png"},
        )
        assert said(rebuilt.content) == (FROM_UPLOAD, None)
        decoded = await client.post(f"/decode?format={form}", json={"z": [[0, 0, 0]]})
        assert said(decoded.content) == (GENERATED, None)


def test_the_bytes_of_a_marked_png_never_change() -> None:
    """From version 1 of the recipe on; a change of these bytes needs another version."""
    digests = [
        hashlib.sha256(to_png(IMAGE, chunks=told.png())).hexdigest()[:16]
        for told in (TOLD, PictureMetadata(GENERATED), PictureMetadata(FROM_UPLOAD))
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
    told = PictureMetadata(GENERATED, start, list_text(seeds))
    for data in (to_png(IMAGE, chunks=told.png()), to_webp(IMAGE, 1, told.xmp())):
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
        (to_webp(IMAGE, 1, TOLD.xmp() + TOLD.xmp()), "2 recipes"),
    ],
)
def test_no_recipe_but_ours_is_read(data: bytes, says: str) -> None:
    with pytest.raises(NoRecipeError, match=says):
        read_recipe(data)


WHOLE = to_png(IMAGE, chunks=TOLD.png())


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
    found = RECIPE.fullmatch(OURS.decode())
    assert found is not None
    assert json.loads(found[0])["digest"] == DIGEST
