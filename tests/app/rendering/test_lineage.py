"""What the pictures of a response say of themselves, read by other software."""

import base64
import json
import zipfile
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
from PIL import Image as PillowImage

from app.formats.png import to_png
from app.formats.provenance import FROM_UPLOAD, GENERATED

IMAGE = np.arange(784, dtype=np.uint8).reshape(28, 28)
TAG = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def metadata_in(data: bytes) -> tuple[str | None, dict[str, Any] | None]:
    """Source and recipe of a picture, as Pillow and an XML parser read them."""
    with PillowImage.open(BytesIO(data)) as picture:
        picture.load()
        xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp")
        text = picture.info.get("genserve")
    if xmp is None:
        return None, None
    tree = ElementTree.fromstring(xmp)
    if text is None and (element := tree.find(".//{urn:x-genserve:1:}recipe")) is not None:
        text = element.text
    source = tree.find(f".//{TAG}")
    assert source is not None
    return source.text, None if text is None else json.loads(text)


async def test_pictures_have_mark_and_recipe_by_default(client: httpx.AsyncClient) -> None:
    digest = (await client.get("/models/tiny-cgan-v1")).json()["digest"]
    one = {"genserve": 1, "model": "tiny-cgan-v1", "digest": digest, "label": 7, "truncation": 1}
    one |= {"layout": "grid", "scale": 1, "seeds": "42"}
    for more in ("", "&format=webp"):
        plain = await client.get(f"/generate?label=7&seed=42&layout=strip{more}")
        assert metadata_in(plain.content) == (GENERATED, one)
        several = await client.get(
            f"/generate?seeds=5,0-2&truncation=0.5&scale=2&layout=strip{more}"
        )
        strip = one | {"label": None, "truncation": 0.5, "layout": "strip", "scale": 2}
        assert metadata_in(several.content) == (GENERATED, strip | {"seeds": "5,0-2"})
    drawn = await client.post("/generate")  # with the seed and the label that were drawn
    recipe = metadata_in(drawn.content)[1]
    assert recipe is not None
    assert recipe["seeds"] == drawn.headers["x-seed"]
    assert f"label={recipe['label']}&" in drawn.headers["content-location"]


async def test_images_returned_one_by_one_have_their_own_recipes(client: httpx.AsyncClient) -> None:
    query = "seed=5&n=3&scale=2"
    items = (await client.get(f"/generate?{query}&format=json")).json()["items"]
    archive = (await client.get(f"/generate?{query}&format=zip")).content
    with zipfile.ZipFile(BytesIO(archive)) as members:
        pngs = [members.read(name) for name in members.namelist() if name.endswith(".png")]
    assert pngs == [base64.b64decode(item["image"]) for item in items]
    for item, png in zip(items, pngs, strict=True):
        recipe = metadata_in(png)[1]
        assert recipe is not None
        assert (recipe["seeds"], recipe["label"]) == (str(item["seed"]), int(item["label"]))


async def test_metadata_switches_the_recipe_and_separately_the_mark_off(
    client: httpx.AsyncClient,
) -> None:
    for form in ("png", "webp"):
        for metadata, source in (("mark", GENERATED), ("none", None)):
            query = f"/generate?seed=42&format={form}&metadata={metadata}"
            answer = await client.get(query)
            assert metadata_in(answer.content) == (source, None)
            place = answer.headers["content-location"]
            assert f"&metadata={metadata}" in place
            assert (await client.get(place)).content == answer.content
    items = (await client.get("/generate?seed=42&format=json&metadata=none")).json()["items"]
    png = base64.b64decode(items[0]["image"])
    assert metadata_in(png) == (None, None)
    assert (await client.get(items[0]["permalink"])).content == png


async def test_what_shows_an_upload_is_marked_as_such(client: httpx.AsyncClient) -> None:
    for form in ("png", "webp"):
        rebuilt = await client.post(
            f"/reconstruct?format={form}",
            content=to_png(IMAGE),
            headers={"content-type": "image/png"},
        )
        assert metadata_in(rebuilt.content) == (FROM_UPLOAD, None)
        decoded = await client.post(f"/decode?format={form}", json={"z": [[0, 0, 0]]})
        assert metadata_in(decoded.content) == (GENERATED, None)
