"""/encode, /decode and /reconstruct over tiny untrained networks."""

import base64
import dataclasses
import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch

from app.formats.png import to_png
from tests.app.api.helpers import PNG, picture, pixels, problem
from training.networks.checkpoint import load, save
from training.networks.fit import FitTable
from training.networks.vae import VAE


async def test_encode_returns_mean_log_variance_and_a_sample(client: httpx.AsyncClient) -> None:
    body = (await client.post("/encode", content=picture(), headers=PNG)).json()
    (item,) = body["items"]
    assert len(item["mu"]) == len(item["logvar"]) == len(item["z"]) == 3
    assert item["z"] == item["mu"]
    seeded = (await client.post("/encode?seed=3", content=picture(), headers=PNG)).json()
    again = (await client.post("/encode?seed=3", content=picture(), headers=PNG)).json()
    assert seeded == again
    assert seeded["items"][0]["mu"] == item["mu"]
    assert seeded["items"][0]["z"] != item["mu"]


async def test_the_response_reports_how_a_picture_was_adapted(
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


async def test_without_a_table_fit_is_null(client: httpx.AsyncClient) -> None:
    encoded = await client.post("/encode", content=picture(), headers=PNG)
    assert encoded.json()["items"][0]["fit"] is None
    rebuilt = await client.post("/reconstruct?format=json", content=picture(), headers=PNG)
    assert rebuilt.json()["items"][0]["fit"] is None
    assert not {"x-picture-fit"} & (encoded.headers.keys() | rebuilt.headers.keys())


async def test_every_operation_that_encodes_states_the_same_fit(
    make_client: Any, tiny_store: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(tiny_store, store)
    network, description = load(store / "tiny-vae-v1.safetensors")
    assert isinstance(network, VAE)
    pictures = torch.rand(200, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mu, _ = network.encode(pictures)
        table = FitTable.of(pictures.numpy(), network.decode(mu).numpy(), mu.numpy())
    save(store / "tiny-vae-v1.safetensors", network, dataclasses.replace(description, fit=table))
    client = await make_client(models_dir=store)
    alike = to_png((pictures[0, 0] * 255).byte().numpy())
    black = to_png(np.zeros((28, 28), dtype=np.uint8))
    encoded = await client.post("/encode", content=alike, headers=PNG)
    fit = encoded.json()["items"][0]["fit"]
    assert 0 < fit <= 1
    assert encoded.headers["x-picture-fit"] == f"{fit:g}"
    for path in ("/reconstruct", "/traverse?axes=0"):
        response = await client.post(path, content=alike, headers=PNG)
        assert response.headers["x-picture-fit"] == f"{fit:g}", path
    texts = [base64.b64encode(data).decode() for data in (black, alike)]
    several = await client.post("/reconstruct?format=json", json={"images": texts})
    assert [item["fit"] for item in several.json()["items"]] == [0, fit]
    ends = [{"seed": 1}, {"image": texts[1]}, {"image": texts[0]}]
    path = await client.post("/interpolate", json={"ends": ends})
    assert path.headers["x-picture-fit"] == f"{fit:g}, 0"


async def test_three_ways_to_upload_give_the_same_encoding(client: httpx.AsyncClient) -> None:
    png = picture(90)
    raw = await client.post("/encode", content=png, headers=PNG)
    form = await client.post("/encode", files={"file": ("../../etc/passwd", png, "image/png")})
    text = base64.b64encode(png).decode()
    several = await client.post("/encode", json={"images": [text, text]})
    assert raw.json() == form.json()
    assert several.json()["items"] == raw.json()["items"] * 2


async def test_what_other_programs_call_a_type_or_put_before_json_is_taken(
    client: httpx.AsyncClient,
) -> None:
    png = picture(90)
    raw = await client.post("/encode", content=png, headers=PNG)
    for name in ("image/x-png", "IMAGE/PNG; name=a.png", "image/jpg"):  # the bytes say what it is
        other = await client.post("/encode", content=png, headers={"content-type": name})
        assert other.json() == raw.json()
    text = json.dumps({"images": [base64.b64encode(png).decode()]}).encode("utf-8-sig")
    marked = await client.post(
        "/encode", content=text, headers={"content-type": "application/json"}
    )
    assert marked.json()["items"] == raw.json()["items"]


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


async def test_a_body_over_the_limit_is_refused_by_its_content_length_or_its_bytes(
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


async def test_a_gan_cannot_encode_and_the_error_names_who_can(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/encode?model=tiny-gan-v1", content=picture(), headers=PNG)
    assert "tiny-vae-v1" in problem(answer, 422, "wrong-model")["detail"]


async def test_encodings_are_not_cached(client: httpx.AsyncClient) -> None:
    answer = await client.post("/encode", content=picture(), headers=PNG)
    assert answer.headers["cache-control"] == "no-store"
