"""The interface, in process, over tiny untrained networks."""

import asyncio
import base64
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image as PillowImage

from app.formats.png import to_png
from tests.conftest import passes

AppOf = Callable[[httpx.AsyncClient], FastAPI]
PNG = {"content-type": "image/png"}


def pixels(png: bytes) -> Any:
    with PillowImage.open(BytesIO(png)) as picture:
        return np.asarray(picture)


def picture(value: int = 200) -> bytes:
    return to_png(np.full((28, 28), value, dtype=np.uint8))


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"/problems/{slug}"
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    return body


async def test_generate_gives_a_png_and_says_what_made_it(client: httpx.AsyncClient) -> None:
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


async def test_no_label_on_a_conditional_model_is_drawn_from_the_seed_and_told(
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


async def test_rejected_values_are_not_echoed_raw(client: httpx.AsyncClient) -> None:
    evil = "<script>alert(1)</script>\u202e\x00" + "A" * 10_000
    for params in ({"label": evil}, {evil: "1"}, {"model": evil}):
        answer = await client.post("/generate", params=params)
        assert answer.status_code in (404, 422)
        text = json.dumps(answer.json(), ensure_ascii=False)
        assert "\u202e" not in text
        assert "\x00" not in text
        assert "A" * 100 not in text
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_type_that_is_not_made_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/generate", headers={"accept": "image/tiff"})
    assert "image/png" in problem(answer, 406, "not-acceptable")["detail"]


async def test_encode_gives_mean_and_spread(client: httpx.AsyncClient) -> None:
    body = (await client.post("/encode", content=picture(), headers=PNG)).json()
    (item,) = body["items"]
    assert len(item["mu"]) == len(item["logvar"]) == len(item["z"]) == 3
    assert item["z"] == item["mu"]
    seeded = (await client.post("/encode?seed=3", content=picture(), headers=PNG)).json()
    again = (await client.post("/encode?seed=3", content=picture(), headers=PNG)).json()
    assert seeded == again
    assert seeded["items"][0]["mu"] == item["mu"]
    assert seeded["items"][0]["z"] != item["mu"]


async def test_what_was_done_to_a_picture_is_told_with_the_answer(
    client: httpx.AsyncClient,
) -> None:
    drawn = np.full((90, 120), 255, dtype=np.uint8)
    drawn[20:60, 30:40] = 0
    upload: dict[str, Any] = {"content": to_png(drawn), "headers": PNG}
    # The tiny networks know nothing of their data: by itself nothing is inverted or centred.
    plain = await client.post("/encode", **upload)
    assert plain.headers["x-picture"] == "120x90, fitted"
    told = plain.json()["items"][0]["picture"]
    assert told == {"width": 120, "height": 90, "steps": ["fitted"]}
    query = "invert=yes&center=yes"
    asked = await client.post(f"/encode?{query}", **upload)
    assert asked.headers["x-picture"] == "120x90, inverted, centred"
    assert asked.json()["items"][0]["mu"] != plain.json()["items"][0]["mu"]
    rebuilt = await client.post(f"/reconstruct?{query}", **upload)
    assert rebuilt.headers["x-picture"] == "120x90, inverted, centred"
    text = base64.b64encode(to_png(drawn)).decode()
    small = base64.b64encode(picture()).decode()
    several = await client.post(f"/reconstruct?{query}&format=json", json={"images": [text, small]})
    steps = [item["picture"]["steps"] for item in several.json()["items"]]
    assert steps == [["inverted", "centred"], ["inverted"]]  # a plain one has no ink
    assert several.headers["x-picture"] == "120x90, inverted, centred; 28x28, inverted"
    refused = await client.post("/encode?invert=maybe", **upload)
    assert "'auto', 'yes' or 'no'" in problem(refused, 422, "invalid-parameter")["detail"]
    generated = await client.get("/generate?format=json")
    assert "x-picture" not in generated.headers


async def test_three_ways_to_upload_give_the_same_encoding(client: httpx.AsyncClient) -> None:
    png = picture(90)
    raw = await client.post("/encode", content=png, headers=PNG)
    form = await client.post("/encode", files={"file": ("../../etc/passwd", png, "image/png")})
    text = base64.b64encode(png).decode()
    several = await client.post("/encode", json={"images": [text, text]})
    assert raw.json() == form.json()
    assert several.json()["items"] == raw.json()["items"] * 2


async def test_decode_and_reconstruct_agree_with_encode(client: httpx.AsyncClient) -> None:
    item = (await client.post("/encode", content=picture(90), headers=PNG)).json()["items"][0]
    decoded = await client.post("/decode", json={"z": [item["mu"]]})
    rebuilt = await client.post("/reconstruct", content=picture(90), headers=PNG)
    assert decoded.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(pixels(rebuilt.content), pixels(decoded.content))
    assert rebuilt.headers["cache-control"] == "no-store"

    out = BytesIO()
    np.save(out, np.array([item["mu"], [0, 0, 0]], dtype=np.float32))
    npy = {"content-type": "application/x-npy", "accept": "application/x-npy"}
    answer = await client.post("/decode", content=out.getvalue(), headers=npy)
    array = np.load(BytesIO(answer.content), allow_pickle=False)
    np.testing.assert_array_equal(array[0], pixels(decoded.content))


async def test_a_body_over_the_limit_is_refused_by_its_announcement_or_its_bytes(
    make_client: Any,
) -> None:
    client = await make_client(max_body_bytes=2000)
    announced = await client.post("/encode", content=b"x" * 2001, headers=PNG)
    problem(announced, 413, "body-too-large")
    assert announced.headers["connection"] == "close"

    async def chunks() -> Any:
        for _ in range(100):
            yield b"x" * 100

    problem(await client.post("/encode", content=chunks(), headers=PNG), 413, "body-too-large")


async def test_a_picture_of_too_many_pixels_is_refused(make_client: Any) -> None:
    client = await make_client(max_pixels=1000)
    big = to_png(np.zeros((40, 40), dtype=np.uint8))
    answer = await client.post("/encode", content=big, headers=PNG)
    assert "1600 pixels" in problem(answer, 413, "body-too-large")["detail"]


async def test_a_gan_cannot_encode_and_says_who_can(client: httpx.AsyncClient) -> None:
    answer = await client.post("/encode?model=tiny-gan-v1", content=picture(), headers=PNG)
    assert "tiny-vae-v1" in problem(answer, 422, "wrong-model")["detail"]


async def test_models_tell_how_much_one_request_may_ask_for(make_client: Any) -> None:
    client = await make_client(max_n=4)
    most = (await client.get("/models")).json()["max_n"]
    assert most == 4
    assert (await client.get(f"/generate?n={most}")).status_code == 200
    assert (await client.get(f"/generate?n={most + 1}")).status_code == 422


async def test_models_tell_what_they_are(client: httpx.AsyncClient) -> None:
    body = (await client.get("/models")).json()
    assert body["default"] == "tiny-cgan-v1"
    assert [card["kind"] for card in body["models"]] == ["cgan", "gan", "vae"]
    card = (await client.get("/models/tiny-vae-v1")).json()
    assert card["operations"] == ["generate", "decode", "encode"]
    assert card["latent_dim"] == 3
    assert card["image_shape"] == [1, 28, 28]
    assert card["reproducibility"] == "exact"
    assert len(card["digest"]) == 64
    problem(await client.get("/models/nobody"), 404, "unknown-model")


async def test_a_refused_file_is_listed_and_the_others_serve(
    make_client: Any, tiny_store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(tiny_store, tmp_path / "store"))
    path = store / "tiny-gan-v1.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    client = await make_client(models_dir=store)
    assert list((await client.get("/models")).json()["refused"]) == [path.name]
    assert (await client.post("/generate?label=7")).status_code == 200
    assert "genserve_refused_checkpoints 1.0" in (await client.get("/metrics")).text


async def test_concurrent_requests_share_forward_passes_and_get_their_own_bytes(
    client: httpx.AsyncClient,
) -> None:
    queries = [f"/generate?label={i % 10}&seed={i}&n={1 + i % 3}&format=npy" for i in range(40)]
    alone = [(await client.get(query)).content for query in queries]
    before = passes((await client.get("/metrics")).text)
    together = await asyncio.gather(*(client.get(query) for query in queries))
    assert [answer.content for answer in together] == alone
    assert passes((await client.get("/metrics")).text) - before <= 20  # 79 images, 8 a batch


async def test_a_full_queue_is_503_with_retry_after(make_client: Any, app_of: AppOf) -> None:
    client = await make_client(queue_limit=4, max_n=4)
    answers = await asyncio.gather(*(client.get("/generate?n=4") for _ in range(12)))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused
    for answer in refused:
        body = problem(answer, 503, "overloaded")
        assert int(answer.headers["retry-after"]) == body["retry_after"] >= 1
    assert {answer.status_code for answer in answers} == {200, 503}
    assert app_of(client).state.service.batcher.waiting == 0


async def test_a_model_that_fails_is_500_for_its_request_and_not_ready(
    client: httpx.AsyncClient, app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = app_of(client).state.service
    backend = service.models["tiny-gan-v1"].backend

    def broken(*_: Any) -> Any:
        raise RuntimeError("secret weights")

    monkeypatch.setattr(backend, "run", broken)
    answer = await client.get("/generate?model=tiny-gan-v1")
    assert "secret" not in answer.text
    problem(answer, 500, "model-failure")
    ready = await client.get("/readyz")
    assert "tiny-gan-v1" in problem(ready, 503, "not-ready")["detail"]
    assert (await client.get("/generate?label=7")).status_code == 200
    assert (await client.get("/livez")).status_code == 200


async def test_our_own_bug_is_a_neutral_500_and_is_logged_with_the_request_id(
    client: httpx.AsyncClient,
    app_of: AppOf,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("private detail")

    monkeypatch.setattr(app_of(client).state.service.selector, "model", broken)
    answer = await client.get("/models/x", headers={"x-request-id": "my-id.1"})
    assert problem(answer, 500, "internal-error")["request_id"] == "my-id.1"
    assert "private" not in answer.text
    assert "my-id.1" in caplog.text


async def test_readiness_is_told(client: httpx.AsyncClient) -> None:
    body = (await client.get("/readyz")).json()
    assert body == {"ready": True, "models": ["tiny-cgan-v1", "tiny-gan-v1", "tiny-vae-v1"]}


async def test_a_request_id_of_the_caller_is_kept_only_if_harmless(
    client: httpx.AsyncClient,
) -> None:
    kept = await client.get("/livez", headers={"x-request-id": "abc-1.2_3"})
    assert kept.headers["x-request-id"] == "abc-1.2_3"
    for bad in ("a b", "x" * 65, "<b>"):
        answer = await client.get("/livez", headers={"x-request-id": bad})
        assert answer.headers["x-request-id"] != bad


async def test_unknown_paths_and_methods_are_problems_too(client: httpx.AsyncClient) -> None:
    problem(await client.get("/nothing"), 404, "not-found")
    problem(await client.post("/generate/"), 404, "not-found")
    answer = await client.delete("/generate")
    problem(answer, 405, "method-not-allowed")
    assert "GET" in answer.headers["allow"]
    assert "POST" in answer.headers["allow"]
    metrics = (await client.get("/metrics")).text
    assert 'route="other"' in metrics
    assert "nothing" not in metrics


async def test_invented_methods_do_not_grow_the_metrics(client: httpx.AsyncClient) -> None:
    for method in ("BREW", "SPILL"):
        problem(await client.request(method, "/generate"), 405, "method-not-allowed")
    metrics = (await client.get("/metrics")).text
    assert "BREW" not in metrics
    assert 'method="other"' in metrics


async def test_every_problem_has_a_page(client: httpx.AsyncClient) -> None:
    for slug, about in (await client.get("/problems")).json().items():
        assert (await client.get(f"/problems/{slug}")).json() == about
    problem(await client.get("/problems/none"), 404, "not-found")


async def test_the_openapi_states_what_the_service_does(make_client: Any) -> None:
    client = await make_client(max_n=17)
    spec = (await client.get("/openapi.json")).json()
    assert spec["openapi"].startswith("3.1")
    generate = spec["paths"]["/generate"]["post"]
    assert "image/png" in generate["responses"]["200"]["content"]
    n = next(p for p in generate["parameters"] if p["name"] == "n")
    assert n["schema"]["maximum"] == 17
    operations = [op for path in spec["paths"].values() for op in path.values()]
    assert all(op["operationId"] and op["tags"] for op in operations)
    text = json.dumps(spec)
    assert "HTTPValidationError" not in text
    known = spec["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in known


async def test_pages_forbid_foreign_hosts(client: httpx.AsyncClient) -> None:
    for path in ("/", "/docs", "/redoc"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe-inline" not in (await client.get("/")).headers["content-security-policy"]


async def test_several_accept_lines_count_as_one(client: httpx.AsyncClient) -> None:
    headers = [("accept", "text/plain"), ("accept", "application/json")]
    answer = await client.get("/generate?seed=1", headers=headers)
    assert answer.headers["content-type"] == "application/json"


async def test_a_model_that_hangs_is_not_ready(
    client: httpx.AsyncClient, app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = app_of(client).state.service
    free = threading.Event()
    backend = service.models["tiny-gan-v1"].backend
    honest = backend.run

    def hang(*arguments: Any) -> Any:
        assert free.wait(30)
        return honest(*arguments)

    monkeypatch.setattr("app.core.health.CANARY_S", 0.05)
    monkeypatch.setattr(backend, "run", hang)
    try:
        detail = problem(await client.get("/readyz"), 503, "not-ready")["detail"]
        assert "no answer within" in detail
    finally:
        free.set()


async def test_encodings_are_not_to_be_stored(client: httpx.AsyncClient) -> None:
    answer = await client.post("/encode", content=picture(), headers=PNG)
    assert answer.headers["cache-control"] == "no-store"
