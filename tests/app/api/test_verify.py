"""/verify: pictures of ours, changed and unchanged."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from app.formats.png import png_chunk, to_png
from app.formats.provenance import GENERATED, PictureMetadata, recipe_start

AppOf = Callable[[httpx.AsyncClient], FastAPI]


def type_of(data: bytes) -> dict[str, str]:
    return {"content-type": "image/png" if data.startswith(b"\x89PNG") else "image/webp"}


async def verified(client: httpx.AsyncClient, data: bytes) -> dict[str, Any]:
    answer = await client.post("/verify", content=data, headers=type_of(data))
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    body: dict[str, Any] = answer.json()
    return body


def saved_again(data: bytes, picture: PillowImage.Image, **options: Any) -> bytes:
    """A picture saved by another program that keeps the recipe of ``data``."""
    out = BytesIO()
    with PillowImage.open(BytesIO(data)) as ours:
        if ours.format == "PNG":
            kept = PngInfo()
            kept.add_itxt("genserve", ours.info["genserve"])
            picture.save(out, "PNG", pnginfo=kept, **options)
        else:
            picture.save(out, "WEBP", xmp=ours.info["xmp"], lossless=True, **options)
    return out.getvalue()


QUERIES = [
    "label=7&seed=42",
    "seed=42",
    "model=tiny-gan-v1&seed=1",
    "model=tiny-vae-v1&n=5&seed=3&truncation=0.3",
    "n=5&seed=1",
    "seeds=9007199254740991,3-5,4&label=0&layout=strip&scale=3",
    "truncation=0&scale=16",
]


@pytest.mark.parametrize("form", ["png", "webp"])
@pytest.mark.parametrize("query", QUERIES)
async def test_what_we_give_is_the_same_and_with_one_pixel_changed_it_is_not(
    client: httpx.AsyncClient, query: str, form: str
) -> None:
    data = (await client.get(f"/generate?{query}&format={form}")).content
    body = await verified(client, data)
    assert body["verdict"] == "same"
    assert (body["different_pixels"], body["largest_difference"]) == (0, 0)
    assert body["model"] == body["recipe"]["model"]
    assert body["reproducibility"] == "exact"
    with PillowImage.open(BytesIO(data)) as picture:
        pixels = np.array(picture)
    again = saved_again(data, PillowImage.fromarray(pixels))
    assert (await verified(client, again))["verdict"] == "same"  # pixels count, not bytes
    pixels[-1, -1] ^= 1
    body = await verified(client, saved_again(data, PillowImage.fromarray(pixels)))
    assert body["verdict"] == "different"
    assert (body["different_pixels"], body["largest_difference"]) == (1, 1)
    assert "1 of" in body["detail"]


async def test_a_form_is_read_too_and_each_image_of_a_list(client: httpx.AsyncClient) -> None:
    data = (await client.post("/generate")).content  # the seed that was drawn is in it
    answer = await client.post("/verify", files={"file": ("a.png", data, "image/png")})
    assert answer.json()["verdict"] == "same"


async def test_a_picture_that_shows_more_or_other_than_its_pixels_is_different(
    client: httpx.AsyncClient,
) -> None:
    data = (await client.get("/generate?label=7&seed=42")).content
    with PillowImage.open(BytesIO(data)) as picture:
        grey = picture.copy()
    clear = grey.convert("RGBA")
    assert (await verified(client, saved_again(data, clear)))["verdict"] == "same"
    clear.putpixel((0, 0), (*clear.getpixel((0, 0))[:3], 254))  # type: ignore[index]
    deep = PillowImage.fromarray(np.asarray(grey, np.uint16) * 257)
    larger = grey.resize((56, 56), PillowImage.Resampling.NEAREST)
    animated = data[:33] + png_chunk(b"acTL", bytes([0, 0, 0, 1, 0, 0, 0, 0])) + data[33:]
    others = [saved_again(data, other) for other in (clear, deep, larger)]
    for other in (*others, animated):
        body = await verified(client, other)
        assert body["verdict"] == "different"
        assert body["different_pixels"] is None


async def test_the_digest_decides_which_model_it_was(
    client: httpx.AsyncClient, app_of: AppOf
) -> None:
    image = np.zeros((28, 28), np.uint8)
    start = recipe_start("tiny-cgan-v1", "0" * 64, 7, 1.0, "grid", 1)
    body = await verified(
        client, to_png(image, chunks=PictureMetadata(GENERATED, start, "42").png())
    )
    assert body["verdict"] == "unknown_model"
    assert body["recipe"]["digest"] == "0" * 64
    assert body["model"] is body["different_pixels"] is body["reproducibility"] is None

    data = (await client.get("/generate?label=7&seed=42")).content
    models = app_of(client).state.service.models
    one, other = models["tiny-cgan-v1"], models["tiny-gan-v1"]
    altered = data.replace(b'"label":7', b'"label":8')  # its checksum is wrong now
    assert (await client.post("/verify", content=altered, headers=type_of(data))).status_code == 422
    start = recipe_start("old-name", one.description.digest, 7, 1.0, "grid", 1)
    with PillowImage.open(BytesIO(data)) as picture:
        image = np.asarray(picture)
    body = await verified(
        client, to_png(image, chunks=PictureMetadata(GENERATED, start, "42").png())
    )
    assert (body["verdict"], body["model"]) == ("same", "tiny-cgan-v1")
    start = recipe_start(other.name, other.description.digest, 7, 1.0, "grid", 1)
    refused = to_png(image, chunks=PictureMetadata(GENERATED, start, "42").png())
    answer = await client.post("/verify", content=refused, headers=type_of(refused))
    assert answer.json()["type"] == "/problems/no-recipe"


@pytest.mark.parametrize(
    ("kind", "data", "status", "slug"),
    [
        ("image/png", to_png(np.zeros((28, 28), np.uint8)), 422, "no-recipe"),
        ("image/png", b"dear diary", 422, "unreadable-image"),
        ("image/jpeg", b"dear diary", 415, "unsupported-media-type"),
        ("application/json", b"{}", 415, "unsupported-media-type"),
        ("", b"", 415, "unsupported-media-type"),
    ],
)
async def test_what_cannot_be_verified_is_a_problem(
    client: httpx.AsyncClient, kind: str, data: bytes, status: int, slug: str
) -> None:
    answer = await client.post(
        "/verify", content=data, headers={"content-type": kind} if kind else {}
    )
    assert answer.status_code == status
    assert answer.json()["type"] == f"/problems/{slug}"
    assert "diary" not in answer.text


async def test_limits_hold(make_client: Any) -> None:
    client = await make_client(max_n=4, max_pixels=1000)
    digest = (await client.get("/models/tiny-gan-v1")).json()["digest"]

    async def told(image: Any, seeds: str, text: bytes = b"") -> httpx.Response:
        start = recipe_start("x", digest, None, 1.0, "grid", 1)
        data = to_png(image, chunks=PictureMetadata(GENERATED, start, seeds).png() + text)
        answer: httpx.Response = await client.post("/verify", content=data, headers=type_of(data))
        return answer

    small = np.zeros((28, 28), np.uint8)
    too_many = await told(small, "0-4")
    assert (too_many.status_code, too_many.json()["detail"][-15:]) == (422, "4 seeds at most")
    assert (await told(small, "4-0")).json()["type"] == "/problems/invalid-parameter"
    for other_form in ("0,1", "3-3"):
        assert (await told(small, other_form)).json()["type"] == "/problems/no-recipe"
    assert (await told(np.zeros((40, 40), np.uint8), "0")).status_code == 413
    # Other text, compressed or not, is never looked at.
    assert (await told(small, "0", png_chunk(b"zTXt", b"x\0\0broken"))).status_code == 200
