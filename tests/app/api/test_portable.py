"""Two services on two engines, as on two machines: one portable model, one picture."""

from pathlib import Path
from typing import Any

import httpx
import pytest

Pair = tuple[httpx.AsyncClient, httpx.AsyncClient]

ADDRESSES = [
    "/generate?seed=42&label=7",
    "/generate?seed=3&n=5&truncation=0.3&format=npy",
    "/generate?model=tiny-gan-v1&seed=1&scale=4",
    "/generate?model=tiny-vae-v1&seed=9&n=4&format=webp",
    "/interpolate?seeds=1,2&steps=6",
    "/traverse?model=tiny-vae-v1&seed=4&steps=3",
]


@pytest.fixture
async def pair(make_client: Any, portable_store: Path) -> Pair:
    one = await make_client(models_dir=portable_store, engine="onnx")
    return one, await make_client(models_dir=portable_store, engine="torch")


async def test_bytes_tags_and_permalinks_are_the_same(pair: Pair) -> None:
    for address in ADDRESSES:
        one, other = [await client.get(address) for client in pair]
        assert one.status_code == 200, one.text
        assert one.content == other.content, address
        for name in ("etag", "content-location", "cache-control", "x-reproducibility"):
            assert one.headers[name] == other.headers[name]
        known = {"if-none-match": one.headers["etag"]}
        unchanged = await pair[1].get(address, headers=known)
        assert unchanged.status_code == 304
        assert unchanged.headers["x-reproducibility"] == "portable"


async def test_one_verifies_what_the_other_has_drawn(pair: Pair) -> None:
    for drawing, verifying in (pair, pair[::-1]):
        for address in ("/generate?seed=42&label=7", "/generate?model=tiny-vae-v1&seed=1&n=9"):
            picture = (await drawing.get(address)).content
            answer = await verifying.post(
                "/verify", content=picture, headers={"content-type": "image/png"}
            )
            body = answer.json()
            assert (body["verdict"], body["reproducibility"]) == ("same", "portable")


async def test_a_card_says_portable_whatever_the_engine(pair: Pair) -> None:
    for client, engine in zip(pair, ("onnx", "torch"), strict=True):
        for card in (await client.get("/models")).json()["models"]:
            assert (card["reproducibility"], card["engine"]) == ("portable", engine)


async def test_what_has_a_permalink_says_how_well_its_model_repeats(
    client: httpx.AsyncClient,
) -> None:
    cards = (await client.get("/models")).json()["models"]
    grades = {card["name"]: card["reproducibility"] for card in cards}
    for address in (*ADDRESSES, "/generate", "/generate?format=json&seed=1", "/dataset?seed=1&n=2"):
        for answer in (await client.get(address), await client.head(address)):
            assert answer.headers["x-reproducibility"] == grades[answer.headers["x-model"]]
    latents = await client.post("/decode", json={"z": [[0, 0, 0]]})
    assert latents.status_code == 200, latents.text
    assert "x-reproducibility" not in latents.headers


async def test_an_encoding_is_the_same_to_the_last_bit(pair: Pair) -> None:
    picture = (await pair[0].get("/generate?model=tiny-gan-v1&seed=1")).content
    headers = {"content-type": "image/png"}
    one, other = [
        (await client.post("/encode?seed=3", content=picture, headers=headers)).json()["items"]
        for client in pair
    ]
    assert one == other
