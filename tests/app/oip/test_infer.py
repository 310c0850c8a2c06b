"""Inference by the Open Inference Protocol, in process, over tiny untrained networks."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from io import BytesIO

import httpx
import numpy as np
import pytest

from tests.app.oip.helpers import CGAN, generated, is_right, outputs_of, seven
from tests.conftest import passes


async def test_every_row_has_its_own_seed_and_label(client: httpx.AsyncClient) -> None:
    numbers, labels = [7, 2**53 - 1, 0, 7], [3, 9, 0, 4]
    body = seven(
        inputs=[
            {"name": "label", "shape": [4, 1], "datatype": "INT64", "data": [[n] for n in labels]},
            {"name": "seed", "shape": [4], "datatype": "UINT64", "data": numbers},
        ],
        outputs=[{"name": name} for name in ("label", "image", "seed")],
    )
    answer = await client.post(f"{CGAN}/infer", json=body)
    found = outputs_of(answer)
    assert list(found) == ["label", "image", "seed"]
    assert found["seed"].tolist() == numbers
    assert found["label"].tolist() == labels
    for image, number, label in zip(found["image"], numbers, labels, strict=True):
        np.testing.assert_array_equal(
            image, (await generated(client, f"label={label}&seed={number}"))[0]
        )
    assert answer.headers["cache-control"] == "no-store"
    assert "compute;dur=" in answer.headers["server-timing"]


async def test_missing_seeds_and_labels_are_drawn_and_returned(client: httpx.AsyncClient) -> None:
    drawn = [
        outputs_of(await client.post(f"{CGAN}/infer", json={"inputs": [], "parameters": {"n": 20}}))
        for _ in range(2)
    ]
    assert list(drawn[0]) == ["image", "seed", "label"]
    assert drawn[0]["seed"].tolist() != drawn[1]["seed"].tolist()
    for found in drawn:
        assert len(set(found["label"].tolist())) > 3
        query = f"seed={found['seed'][0]}&n=20"  # labels are drawn from the seeds, as elsewhere
        np.testing.assert_array_equal(found["image"], await generated(client, query))

    label = {"name": "label", "shape": [3], "datatype": "INT64", "data": [5, 5, 6]}
    found = outputs_of(await client.post(f"{CGAN}/infer", json={"inputs": [label]}))
    assert found["label"].tolist() == [5, 5, 6]
    query = f"label=6&seed={found['seed'][2]}"
    np.testing.assert_array_equal(found["image"][2:], await generated(client, query))

    one = outputs_of(await client.post("/v2/models/tiny-gan-v1/infer", json={"inputs": []}))
    assert list(one) == ["image", "seed"]
    query = f"model=tiny-gan-v1&seed={one['seed'][0]}"
    np.testing.assert_array_equal(one["image"], await generated(client, query))


async def test_encode_and_decode_are_those_of_the_other_routes(client: httpx.AsyncClient) -> None:
    pixels = await generated(client, "n=2&seed=1&model=tiny-vae-v1")
    asked = {"name": "image", "shape": [2, 28, 28], "datatype": "UINT8", "data": pixels.tolist()}
    answer = await client.post("/v2/models/tiny-vae-v1.encode/infer", json={"inputs": [asked]})
    found = outputs_of(answer)
    for index in range(2):
        png = (await client.get(f"/generate?seed={1 + index}&model=tiny-vae-v1")).content
        headers = {"content-type": "image/png"}
        item = (await client.post("/encode", content=png, headers=headers)).json()["items"][0]
        assert found["mu"][index].tolist() == item["mu"]
        assert found["logvar"][index].tolist() == item["logvar"]

    z = {"name": "z", "shape": [2, 3], "datatype": "FP32", "data": found["mu"].tolist()}
    answer = await client.post("/v2/models/tiny-vae-v1.decode/infer", json={"inputs": [z]})
    decoded = await client.post("/decode?format=npy", json={"z": found["mu"].tolist()})
    expected = np.load(BytesIO(decoded.content), allow_pickle=False)
    np.testing.assert_array_equal(outputs_of(answer)["image"], expected)


async def test_requests_of_both_interfaces_share_forward_passes(
    client: httpx.AsyncClient,
) -> None:
    await is_right(client)
    before = passes((await client.get("/metrics")).text)
    answers = await asyncio.gather(
        *(client.post(f"{CGAN}/infer", json=seven()) for _ in range(20)),
        *(client.get("/generate?label=7&seed=42") for _ in range(20)),
    )
    assert {answer.status_code for answer in answers} == {200}
    assert passes((await client.get("/metrics")).text) - before <= 12  # 40 images, 8 a batch


@pytest.mark.parametrize(
    ("coding", "compress"), [("gzip", gzip.compress), ("Deflate", zlib.compress)]
)
async def test_a_compressed_body_is_read(
    client: httpx.AsyncClient, coding: str, compress: Callable[[bytes], bytes]
) -> None:
    body = compress(json.dumps(seven()).encode())
    headers = {"content-encoding": coding}
    answer = await client.post(f"{CGAN}/infer", content=body, headers=headers)
    expected = await generated(client, "label=7&seed=42")
    np.testing.assert_array_equal(outputs_of(answer)["image"], expected)


async def test_as_many_images_as_the_setting_allows_are_encoded_from_indented_json(
    client: httpx.AsyncClient,
) -> None:
    """The limit that follows from the model leaves room for every way to write its numbers."""
    data = np.full((64, 28, 28), 255).tolist()
    image = {"name": "image", "shape": [64, 28, 28], "datatype": "UINT8", "data": data}
    body = json.dumps({"inputs": [image]}, indent=4).encode()
    assert len(body) > 1_000_000
    answer = await client.post("/v2/models/tiny-vae-v1.encode/infer", content=body)
    assert outputs_of(answer)["mu"].shape == (64, 3)
