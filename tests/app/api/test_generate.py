"""/generate: seeds, labels, formats, truncation, layouts, caching."""

import base64
import hashlib
import re
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from tests.app.api.helpers import AppOf, pixels
from tests.app.full_route import FULL_ROUTE

FOR_EVER = "public, max-age=31536000, immutable"


async def arrays(client: httpx.AsyncClient, query: str) -> Any:
    answer = await client.get(f"/generate?{query}&format=npy")
    assert answer.status_code == 200, answer.text
    return np.load(BytesIO(answer.content), allow_pickle=False)


def passes(app: FastAPI) -> float:
    """Forward passes so far."""
    text = app.state.service.metrics.text()[0].decode()
    found = re.findall(r"^genserve_forward_passes_total\{.*\} (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


async def test_generate_returns_a_png_and_its_address(client: httpx.AsyncClient) -> None:
    answer = await client.post("/generate", params={"label": "7"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert pixels(answer.content).shape == (28, 28)
    assert answer.headers["x-model"] == "tiny-cgan-v1"
    assert answer.headers["cache-control"] == "no-store"
    again = await client.get(answer.headers["content-location"])
    assert again.content == answer.content
    assert f"seed={answer.headers['x-seed']}" in answer.headers["content-location"]
    assert 'batch;desc="1 of 1"' in answer.headers["server-timing"]


async def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    client: httpx.AsyncClient,
) -> None:
    first = await client.post("/generate?label=7&seed=42")
    assert first.headers["cache-control"] == "no-cache"
    assert (await client.get("/generate?label=7&seed=42")).content == first.content
    assert (await client.get("/generate?label=7&seed=43")).content != first.content
    assert (await client.get("/generate?label=8&seed=42")).content != first.content


async def test_image_i_of_n_is_the_image_of_seed_plus_i(client: httpx.AsyncClient) -> None:
    many = await client.get("/generate?n=20&seed=100&format=npy&label=3")
    array = np.load(BytesIO(many.content), allow_pickle=False)
    assert array.shape == (20, 28, 28)
    for index in (0, 7, 19):
        one = await client.get(f"/generate?seed={100 + index}&label=3")
        np.testing.assert_array_equal(pixels(one.content), array[index])


async def test_no_label_on_a_conditional_model_is_drawn_from_the_seed(
    client: httpx.AsyncClient,
) -> None:
    items = (await client.get("/generate?n=30&seed=5&format=json")).json()["items"]
    assert len({item["label"] for item in items}) > 3
    for item in items[:3]:
        without = await client.get(f"/generate?seed={item['seed']}")
        assert base64.b64decode(item["image"]) == without.content


async def test_json_items_are_what_their_permalinks_give(client: httpx.AsyncClient) -> None:
    answer = await client.post("/generate?n=3&scale=2", headers={"accept": "application/json"})
    body = answer.json()
    assert body["model"] == "tiny-cgan-v1"
    for item in body["items"]:
        png = base64.b64decode(item["image"])
        assert pixels(png).shape == (56, 56)
        assert hashlib.sha256(png).hexdigest() == item["digest"]
        assert (await client.get(item["permalink"])).content == png
    whole = await client.get(answer.headers["content-location"])
    assert whole.json() == body


async def test_several_images_as_png_are_one_grid(client: httpx.AsyncClient) -> None:
    grid = pixels((await client.get("/generate?n=5&seed=1")).content)
    assert grid.shape == (56, 84)
    third = pixels((await client.get("/generate?seed=3")).content)
    np.testing.assert_array_equal(grid[:28, 56:], third)


@pytest.mark.parametrize("model", ["tiny-cgan-v1", "tiny-gan-v1", "tiny-vae-v1"])
async def test_every_model_generates(client: httpx.AsyncClient, model: str) -> None:
    answer = await client.post("/generate", params={"model": model, "seed": 1})
    assert answer.headers["x-model"] == model
    assert pixels(answer.content).shape == (28, 28)


async def test_the_largest_seed_works(client: httpx.AsyncClient) -> None:
    assert (await client.get("/generate?seed=9007199254740991")).status_code == 200


async def test_seeds_keep_their_order_and_x_seed_has_the_first(
    client: httpx.AsyncClient,
) -> None:
    many = await arrays(client, "label=7&seeds=17,0-2,17")
    one_by_one = [await arrays(client, f"label=7&seed={seed}") for seed in (17, 0, 1, 2, 17)]
    np.testing.assert_array_equal(many, np.concatenate(one_by_one))
    answer = await client.get("/generate?label=7&seeds=17,0-2")
    assert answer.headers["x-seed"] == "17"
    assert "&seeds=17,0-2" in answer.headers["content-location"]


async def test_equivalent_requests_have_one_canonical_address(
    client: httpx.AsyncClient,
) -> None:
    asked = [
        ("label=7&seed=3&n=3", "seeds=3-5&label=7", "seeds=3,4,5&label=7&truncation=1.0"),
        ("label=7&seed=3", "label=7&seeds=3", "n=1&scale=1&layout=strip&label=7&seed=3"),
        ("label=7&seed=3&truncation=0.50", "truncation=0.5&seeds=3-3&label=7"),
        ("label=7&seeds=5,5", "seeds=5,5&label=7"),
        ("label=7&seed=3&n=2&format=npy&layout=strip&scale=3", "format=npy&label=7&seeds=3,4"),
    ]
    places = set()
    for queries in asked:
        answers = [await client.get(f"/generate?{query}") for query in queries]
        assert {answer.status_code for answer in answers} == {200}
        (place,) = {answer.headers["content-location"] for answer in answers}
        (tag,) = {answer.headers["etag"] for answer in answers}
        again = await client.get(place)
        assert again.content == answers[0].content
        assert again.headers["content-location"] == place
        assert again.headers["etag"] == tag
        places.add((place, tag))
    assert len(places) == len({tag for _, tag in places}) == len(asked)


async def test_truncation_pulls_images_towards_one_and_belongs_to_the_row(
    client: httpx.AsyncClient,
) -> None:
    whole = await arrays(client, "label=7&seed=1&n=6")
    np.testing.assert_array_equal(await arrays(client, "label=7&seed=1&n=6&truncation=1"), whole)
    half = await arrays(client, "label=7&seed=1&n=6&truncation=0.5")
    assert half.std(axis=0).mean() < whole.std(axis=0).mean()
    none = await arrays(client, "label=7&seed=1&n=6&truncation=0")
    np.testing.assert_array_equal(none, none[:1].repeat(6, axis=0))


async def test_a_strip_is_one_row_and_one_image_is_one_image(client: httpx.AsyncClient) -> None:
    images = await arrays(client, "seed=1&n=5")
    strip = await client.get("/generate?seed=1&n=5&layout=strip&scale=2")
    expected = np.concatenate(images, axis=1).repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(pixels(strip.content), expected)
    one = await client.get("/generate?seed=1&layout=strip")
    np.testing.assert_array_equal(pixels(one.content), images[0])


async def test_webp_has_the_pixels_of_png(client: httpx.AsyncClient) -> None:
    png = await client.get("/generate?seed=1&n=5&layout=strip&scale=3")
    for answer in (
        await client.get("/generate?seed=1&n=5&layout=strip&scale=3&format=webp"),
        await client.get(
            "/generate?seed=1&n=5&layout=strip&scale=3", headers={"accept": "image/webp"}
        ),
    ):
        assert answer.headers["content-type"] == "image/webp"
        assert answer.content[8:16] == b"WEBPVP8L" or b"VP8L" in answer.content[:2000]  # lossless
        np.testing.assert_array_equal(pixels(answer.content)[..., 1], pixels(png.content))
        assert (await client.get(answer.headers["content-location"])).content == answer.content
    decoded = await client.post("/decode?format=webp&scale=2", json={"z": [[0, 0, 0]]})
    assert pixels(decoded.content).shape == (56, 56, 3)


async def test_only_an_address_with_the_models_digest_is_kept_for_ever(
    client: httpx.AsyncClient,
) -> None:
    digest = (await client.get("/models/tiny-cgan-v1")).json()["digest"]
    for path in ({}, FULL_ROUTE):
        by_name = await client.get("/generate?label=7&seed=42", headers=path)
        assert by_name.headers["cache-control"] == "no-cache"
        for digits in (12, 13, 64):
            pin = f"/generate?model=tiny-cgan-v1@{digest[:digits]}&label=7&seed=42"
            pinned = await client.get(pin, headers=path)
            assert pinned.headers["cache-control"] == FOR_EVER
            assert pinned.headers["etag"] == by_name.headers["etag"]
            assert pinned.content == by_name.content
        drawn = await client.get(f"/generate?model=tiny-cgan-v1@{digest}", headers=path)
        assert drawn.headers["cache-control"] == "no-store"
        assert "etag" not in drawn.headers
        place = drawn.headers["content-location"]
        assert f"model=tiny-cgan-v1@{digest[:12]}&" in place
        assert (await client.get(place)).headers["cache-control"] == FOR_EVER
        for wrong in (digest[:11], digest.upper()[:12], digest + "0", digest[1:]):
            answer = await client.get(f"/generate?model=tiny-cgan-v1@{wrong}", headers=path)
            assert answer.status_code == 404
            assert f"tiny-cgan-v1@{digest[:12]}" in answer.json()["detail"]


async def test_a_tag_that_is_known_is_answered_without_the_model(
    client: httpx.AsyncClient, app_of: AppOf
) -> None:
    url = "/generate?label=7&seed=42&n=3"
    first = await client.get(url)
    tag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    before = passes(app_of(client))
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = await client.get(url, headers={"if-none-match": known})
        assert answer.status_code == 304
        assert answer.content == b""
        assert "content-length" not in answer.headers
        for name in ("etag", "cache-control", "content-location", "vary", "x-seed", "x-model"):
            assert answer.headers[name] == first.headers[name]
    assert passes(app_of(client)) == before
    for other in ('"x"', tag.strip('"'), ""):
        answer = await client.get(url, headers={"if-none-match": other})
        assert answer.content == first.content
    # POST selects no representation to compare with; unseeded calls have no tag.
    assert (await client.post(url, headers={"if-none-match": tag})).status_code == 200
    assert (await client.get("/generate", headers={"if-none-match": "*"})).status_code == 200


async def test_every_parameter_and_type_has_its_own_tag(client: httpx.AsyncClient) -> None:
    query = "label=7&seed=42&n=3"
    variants = ["", "&scale=2", "&layout=strip", "&truncation=0.5", "&format=webp", "&format=json"]
    variants += ["&metadata=mark", "&metadata=none", "&metadata=none&format=webp"]
    tags = [
        (await client.get(f"/generate?{query}{variant}")).headers["etag"] for variant in variants
    ]
    other = (await client.get("/generate?label=8&seed=42&n=3")).headers["etag"]
    assert len({*tags, other}) == len(variants) + 1


async def test_a_model_that_does_not_repeat_itself_gives_no_tag(
    client: httpx.AsyncClient, app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    grades = app_of(client).state.service.engine.reproducibility
    monkeypatch.setitem(grades, "tiny-cgan-v1", "visual")
    for path in ({}, FULL_ROUTE):
        place = (await client.get("/generate?seed=1", headers=path)).headers["content-location"]
        answer = await client.get(place, headers=path)
        assert "etag" not in answer.headers
        assert answer.headers["cache-control"] == "no-cache"


async def test_the_openapi_document_has_every_parameter_header_and_type(
    client: httpx.AsyncClient,
) -> None:
    spec = (await client.get("/openapi.json")).json()
    for method in ("get", "post"):
        operation = spec["paths"]["/generate"][method]
        known = {p["name"]: p["schema"] for p in operation["parameters"] if p["in"] == "query"}
        refused = await client.get("/generate?nothing=1")
        assert ", ".join(known) in refused.json()["detail"]
        assert known["layout"]["enum"] == ["grid", "strip", "animation"]
        assert known["metadata"]["enum"] == ["full", "mark", "none"]
        truncation = known["truncation"]
        assert [truncation[key] for key in ("minimum", "maximum", "multipleOf")] == [0, 1, 0.01]
        pattern = known["seeds"]["pattern"]
        assert re.search(pattern, "0-3,17")
        assert not re.search(pattern, "0-3,")
        told = operation["responses"]["200"]
        for media in set(told["content"]) - {"image/apng"}:  # an animation's
            answer = await client.request(method, "/generate?seed=1", headers={"accept": media})
            assert answer.headers["content-type"] == media
            ours = {"content-type", "content-length", "x-content-type-options"}
            assert {h.lower() for h in told["headers"]} == set(answer.headers) - ours
        formats = known["format"]["enum"]
        types = {
            (await client.get(f"/generate?format={name}")).headers["content-type"]
            for name in formats
        }
        assert types | {"image/apng"} == set(told["content"])
        assert ("304" in operation["responses"]) == (method == "get")
    headers = spec["paths"]["/decode"]["post"]["responses"]["200"]["headers"]
    answer = await client.post("/decode", json={"z": [[0, 0, 0]]})
    assert {h.lower() for h in headers} == set(answer.headers) - ours
    verify = spec["paths"]["/verify"]["post"]
    assert set(verify["requestBody"]["content"]) == {
        *("image/png", "image/webp", "multipart/form-data"),
    }
    assert {"200", "400", "413", "415", "422"} <= set(verify["responses"])


async def test_head_of_what_has_a_tag_computes_nothing(
    client: httpx.AsyncClient, app_of: AppOf
) -> None:
    before = passes(app_of(client))
    head = await client.head("/generate?label=7&seed=42")
    known = await client.head(
        "/generate?label=7&seed=42", headers={"if-none-match": head.headers["etag"]}
    )
    assert (head.status_code, known.status_code) == (200, 304)
    dataset = await client.head("/dataset?n=1000&seed=1")
    assert dataset.status_code == 200
    assert dataset.headers["content-type"] == "application/zip"
    assert passes(app_of(client)) == before
    drawn = await client.head("/generate?label=7")
    assert drawn.status_code == 200
    assert "x-seed" in drawn.headers
    refused = await client.head("/generate?label=10")
    assert (refused.status_code, refused.content) == (422, b"")


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("label=7&seed=42", "tiny-cgan-v1-7-42.png"),
        ("label=7&seed=42&n=4", "tiny-cgan-v1-7-42-n4.png"),
        ("seed=42&n=4&format=zip", "tiny-cgan-v1-42-n4.zip"),
        ("model=tiny-gan-v1&seed=1&format=webp", "tiny-gan-v1-1.webp"),
        ("label=7&seed=42&n=2&layout=animation", "tiny-cgan-v1-7-42-n2.png"),
    ],
)
async def test_a_picture_has_a_name_to_be_saved_under(
    client: httpx.AsyncClient, query: str, name: str
) -> None:
    for accept in ("*/*", "*/*;q=0.9"):
        answer = await client.get(f"/generate?{query}", headers={"accept": accept})
        assert answer.headers["content-disposition"] == f'inline; filename="{name}"'
