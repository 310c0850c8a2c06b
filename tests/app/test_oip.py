"""The Open Inference Protocol, in process, over tiny untrained networks."""

import asyncio
import gzip
import json
import shutil
import zlib
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.oip import Served
from app.pending import DeadlineError
from app.settings import Settings
from training.networks.configs import VaeConfig

AppOf = Callable[[httpx.AsyncClient], FastAPI]
CGAN = "/v2/models/tiny-cgan-v1"
SIZE = "inference-header-content-length"


@pytest.fixture(scope="module")
async def lasting(tiny_store: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one application for all refusals: a table of them, each with a canary."""
    app = create_app(Settings(models_dir=tiny_store, max_batch=8))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


def seven(**members: Any) -> dict[str, Any]:
    """A good request: a seven of seed 42."""
    inputs = [
        {"name": "seed", "shape": [1], "datatype": "INT64", "data": [42]},
        {"name": "label", "shape": [1], "datatype": "INT64", "data": [7]},
    ]
    return {"inputs": inputs, "outputs": [{"name": "image"}]} | members


def outputs_of(answer: httpx.Response) -> dict[str, Any]:
    """The outputs that came as JSON, as arrays."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return {
        output["name"]: np.array(output["data"]).reshape(output["shape"])
        for output in answer.json()["outputs"]
    }


async def generated(client: httpx.AsyncClient, query: str) -> Any:
    """What /generate gives: (n, H, W)."""
    answer = await client.get(f"/generate?{query}&format=npy")
    return np.load(BytesIO(answer.content), allow_pickle=False)


def refused(answer: httpx.Response, status: int) -> str:
    """The text of an error, as the protocol has it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert list(answer.json()) == ["error"]
    assert len(answer.content) < 1000
    assert answer.text.isascii()
    text: str = answer.json()["error"]
    assert text
    return text


async def is_right(client: httpx.AsyncClient) -> None:
    """The canary: a good request is answered with the image of /generate."""
    answer = await client.post(f"{CGAN}/infer", json=seven())
    expected = await generated(client, "label=7&seed=42")
    np.testing.assert_array_equal(outputs_of(answer)["image"], expected)


async def test_metadata_names_every_tensor_of_each_operation(client: httpx.AsyncClient) -> None:
    async def tensors(name: str) -> tuple[Any, Any]:
        body = (await client.get(f"/v2/models/{name}")).json()
        assert body["name"] == name
        assert body["versions"] == ["1"]
        assert (await client.get(f"/v2/models/{name}/versions/1")).json() == body
        inputs, outputs = (
            {t["name"]: (t["datatype"], t["shape"]) for t in body[end]}
            for end in ("inputs", "outputs")
        )
        return inputs, outputs

    images = {"image": ("UINT8", [-1, 28, 28]), "png": ("BYTES", [-1])}
    seed, label = {"seed": ("INT64", [-1])}, {"label": ("INT64", [-1])}
    assert await tensors("tiny-cgan-v1") == (seed | label, images | seed | label)
    assert await tensors("tiny-gan-v1") == (seed, images | seed)
    assert await tensors("tiny-vae-v1") == (seed, images | seed)
    z, pixels = {"z": ("FP32", [-1, 3])}, {"image": ("UINT8", [-1, 28, 28])}
    assert await tensors("tiny-vae-v1.decode") == (z, images)
    posterior = {"mu": ("FP32", [-1, 3]), "logvar": ("FP32", [-1, 3])}
    assert await tensors("tiny-vae-v1.encode") == (pixels, posterior)

    card = (await client.get("/models/tiny-cgan-v1")).json()
    properties = (await client.get(CGAN)).json()["properties"]
    assert properties == {
        "operation": "generate",
        "digest": card["digest"],
        "reproducibility": card["reproducibility"],
        "optional_inputs": "seed, label",
    }


@pytest.mark.parametrize("operation", ["encode", "decode", "generate"])
def test_a_colour_models_images_have_their_channels_last(operation: Any) -> None:
    network = VaeConfig(latent_dim=5, image_channels=3, image_size=8)
    model: Any = SimpleNamespace(network=network)
    signature = Served("colour-vae-v1", model, operation).signature
    ends = signature.inputs if operation == "encode" else signature.outputs
    assert ends[0].metadata() == {"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}


async def test_a_checkpoint_named_like_an_operation_goes_first(
    make_client: Any, tiny_store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(tiny_store, tmp_path / "store"))
    for ending in ("safetensors", "generate.onnx"):
        (store / f"tiny-gan-v1.{ending}").rename(store / f"tiny-vae-v1.decode.{ending}")
    client = await make_client(models_dir=store)
    body = (await client.get("/v2/models/tiny-vae-v1.decode")).json()
    assert body["properties"]["operation"] == "generate"
    assert [tensor["name"] for tensor in body["inputs"]] == ["seed"]


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


async def test_what_is_not_given_is_drawn_and_told(client: httpx.AsyncClient) -> None:
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
    def passes(metrics: str) -> float:
        (line,) = [
            line
            for line in metrics.splitlines()
            if line.startswith("genserve_forward_passes_total") and "tiny-cgan" in line
        ]
        return float(line.split()[-1])

    await is_right(client)
    before = passes((await client.get("/metrics")).text)
    answers = await asyncio.gather(
        *(client.post(f"{CGAN}/infer", json=seven()) for _ in range(20)),
        *(client.get("/generate?label=7&seed=42") for _ in range(20)),
    )
    assert {answer.status_code for answer in answers} == {200}
    assert passes((await client.get("/metrics")).text) - before <= 12  # 40 images, 8 a batch


async def test_health_is_told(client: httpx.AsyncClient, app_of: AppOf) -> None:
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2/health/ready")).json() == {"ready": True}
    for name in ("tiny-gan-v1", "tiny-vae-v1.encode"):
        body = (await client.get(f"/v2/models/{name}/ready")).json()
        assert body == {"name": name, "ready": True}
    for path in ("/v2", "/v2/"):
        assert (await client.get(path)).json()["extensions"] == [
            "binary_tensor_data",
            "model_repository",
        ]

    service = app_of(client).state.service
    service._not_ready = {"tiny-gan-v1": "no answer within 5 s"}
    service._ready_at = float("inf")
    assert "tiny-gan-v1: no answer" in refused(await client.get("/v2/health/ready"), 503)
    refused(await client.get("/v2/models/tiny-gan-v1/ready"), 503)
    assert (await client.get(f"{CGAN}/ready")).status_code == 200

    service.start_draining()
    assert "stopping" in refused(await client.get(f"{CGAN}/ready"), 503)
    service.batcher._task.cancel()
    await asyncio.sleep(0)
    assert "restarted" in refused(await client.get("/v2/health/live"), 503)


async def test_the_index_has_every_model_and_what_is_not_served(
    client: httpx.AsyncClient, app_of: AppOf
) -> None:
    service = app_of(client).state.service
    service.refused["broken-gan-v1.safetensors"] = "damaged or altered"
    service._not_ready = {"tiny-vae-v1": "no answer"}
    service._ready_at = float("inf")
    entries = (await client.post("/v2/repository/index")).json()
    assert {entry["name"]: (entry["state"], entry["reason"]) for entry in entries} == {
        "tiny-cgan-v1": ("READY", ""),
        "tiny-gan-v1": ("READY", ""),
        "tiny-vae-v1": ("UNAVAILABLE", "no answer"),
        "tiny-vae-v1.decode": ("UNAVAILABLE", "no answer"),
        "tiny-vae-v1.encode": ("UNAVAILABLE", "no answer"),
        "broken-gan-v1": ("UNAVAILABLE", "damaged or altered"),
    }
    ready = (await client.post("/v2/repository/index", json={"ready": True})).json()
    assert [entry["name"] for entry in ready] == ["tiny-cgan-v1", "tiny-gan-v1"]
    for body in (b"[]", b'{"ready":1}', b'{"reddy":true}', b"null"):
        assert "empty" in refused(await client.post("/v2/repository/index", content=body), 400)
    refused(await client.post("/v2/repository/index", content=b" " * 1025), 413)


PACKED = gzip.compress(b"{}", mtime=0)  # without the time, which would be in the tests' names

HOSTILE: list[tuple[str, Any, dict[str, str], int, str]] = [
    ("/v2/models/nobody/infer", seven(), {}, 404, "available: tiny-cgan-v1"),
    ("/v2/models/tiny-cgan-v/infer", seven(), {}, 404, "did you mean tiny-cgan-v1?"),
    ("/v2/models/tiny-cgan-v1.encode/infer", seven(), {}, 404, "unknown model"),
    ("/v2/models/tiny-vae-v1.generate/infer", seven(), {}, 404, "unknown model"),
    ("/v2/models/%3Cscript%3E%E2%80%AE/infer", seven(), {}, 404, r"'<script>\u202e'"),
    (f"/v2/models/{'x' * 3000}/infer", seven(), {}, 404, "unknown model"),
    ("/v2/models/..%2F..%2Fetc/infer", seven(), {}, 404, "nothing at"),
    (f"{CGAN}/versions/2/infer", seven(), {}, 404, "version 1 alone"),
    (f"{CGAN}/versions/01/infer", seven(), {}, 404, "version 1 alone"),
    (f"{CGAN}/infer?n=3", seven(), {}, 400, "unknown parameter 'n'"),
    (f"{CGAN}/infer", b"", {}, 400, "not JSON"),
    (f"{CGAN}/infer", b"{", {}, 400, "not JSON"),
    (f"{CGAN}/infer", b"\xff", {}, 400, "UTF-8"),
    (f"{CGAN}/infer", b"[" * 8000, {}, 400, "nested too deeply"),
    (f"{CGAN}/infer", b'{"inputs":[],"inputs":[]}', {}, 400, "stands twice"),
    (f"{CGAN}/infer", b'{"inputs":[],"id":"\\udc00"}', {}, 400, "surrogate"),
    (f"{CGAN}/infer", b'{"inputs":[NaN]}', {}, 400, "NaN"),
    (f"{CGAN}/infer", seven(parameters={"n": 65}), {}, 400, "1 to 64"),
    (f"{CGAN}/infer", seven(parameters={"timeout": 5}), {}, 400, "'timeout', which is unknown"),
    (f"{CGAN}/infer", seven(), {SIZE: "-1"}, 400, "greater than or equal to 0"),
    (f"{CGAN}/infer", seven(), {SIZE: "1e3"}, 400, "plain digits"),
    (f"{CGAN}/infer", seven(), {SIZE: "999999999999999999"}, 400, "the body has"),
    (f"{CGAN}/infer", seven(), {SIZE: "9" * 5000}, 400, "plain digits"),
    (f"{CGAN}/infer", seven(), {SIZE: "3"}, 400, "not JSON"),
    (f"{CGAN}/infer", seven(), {"x-timeout-ms": "0"}, 400, "greater than or equal to 1"),
    (f"{CGAN}/infer", seven(), {"content-type": "text/plain"}, 415, "application/json"),
    (f"{CGAN}/infer", seven(), {"content-type": ""}, 415, "application/json"),
    (f"{CGAN}/infer", seven(), {"content-encoding": "br"}, 415, "gzip or deflate"),
    (f"{CGAN}/infer", seven(), {"content-encoding": "gzip, gzip"}, 415, "gzip or deflate"),
    (f"{CGAN}/infer", b"hello", {"content-encoding": "gzip"}, 400, "not gzip"),
    (f"{CGAN}/infer", b"", {"content-encoding": "deflate"}, 400, "whole deflate"),
    (f"{CGAN}/infer", PACKED[:-5], {"content-encoding": "gzip"}, 400, "whole gzip"),
    (f"{CGAN}/infer", PACKED * 2, {"content-encoding": "gzip"}, 400, "whole gzip"),
    (f"{CGAN}/infer", zlib.compress(bytes(10**7), 9), {"content-encoding": "deflate"}, 413, "over"),
    (f"{CGAN}/infer", b" " * 10**5, {}, 413, "at most"),
    (f"{CGAN}/nothing", seven(), {}, 404, "nothing at"),
    (CGAN, seven(), {}, 405, "allowed: GET"),
    ("/v2/health/live", b"", {}, 405, "allowed: GET"),
]


@pytest.mark.parametrize(("path", "body", "headers", "status", "says"), HOSTILE)
async def test_what_is_wrong_is_refused_and_the_next_request_is_answered(
    lasting: httpx.AsyncClient,
    path: str,
    body: Any,
    headers: dict[str, str],
    status: int,
    says: str,
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await lasting.post(path, content=content, headers=headers)
    assert says in refused(answer, status)
    if status == 405:
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    await is_right(lasting)


def binary_seed(size: Any, shape: list[int]) -> bytes:
    parameters = {"binary_data_size": size}
    seed = {"name": "seed", "shape": shape, "datatype": "INT64", "parameters": parameters}
    return json.dumps({"inputs": [seed]}).encode()


@pytest.mark.parametrize(
    ("size", "shape", "raw", "status"),
    [
        (16, [2], bytes(16), 200),
        (16, [2, 1], bytes(16), 200),
        (16, [2], bytes(15), 400),
        (16, [2], bytes(17), 400),
        (8, [2], bytes(8), 400),
        (-16, [2], b"", 400),
        (2**64, [2**61], b"", 400),
        (0, [0], b"", 400),
        (65 * 8, [65], bytes(65 * 8), 400),
        (0, [2**32, 2**32], b"", 400),
        (8, [1], b"\xff" * 8, 400),  # -1
    ],
)
async def test_binary_sizes_and_shapes_are_checked(
    lasting: httpx.AsyncClient, size: int, shape: list[int], raw: bytes, status: int
) -> None:
    head = binary_seed(size, shape)
    headers = {SIZE: str(len(head)), "content-type": "application/octet-stream"}
    answer = await lasting.post(f"{CGAN}/infer", content=head + raw, headers=headers)
    if status == 200:
        assert outputs_of(answer)["seed"].tolist() == [0, 0]
    else:
        refused(answer, status)
    await is_right(lasting)


async def test_a_length_given_twice_is_refused(client: httpx.AsyncClient) -> None:
    head = binary_seed(8, [1])
    answer = await client.post(
        f"{CGAN}/infer", content=head + bytes(8), headers=[(SIZE, str(len(head))), (SIZE, "2")]
    )
    assert "2 times" in refused(answer, 400)


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


async def test_a_body_is_read_up_to_the_setting_at_most(make_client: Any) -> None:
    client = await make_client(max_body_bytes=1024)
    answer = await client.post(f"{CGAN}/infer", content=b" " * 1025)
    assert "at most 1024" in refused(answer, 413)
    assert answer.headers["connection"] == "close"
    await is_right(client)


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


async def test_overload_is_503_with_retry_after(make_client: Any) -> None:
    client = await make_client(queue_limit=4, max_n=4)
    body = {"inputs": [], "parameters": {"n": 4}}
    answers = await asyncio.gather(*(client.post(f"{CGAN}/infer", json=body) for _ in range(12)))
    full = [answer for answer in answers if answer.status_code == 503]
    assert full
    for answer in full:
        assert "try again in" in refused(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
    assert {answer.status_code for answer in answers} == {200, 503}
    await is_right(client)


async def test_a_deadline_that_passes_is_504(
    client: httpx.AsyncClient, app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = app_of(client).state.service.batcher
    left = []

    async def late(lane: Any, rows: Any, deadline: float, *_: Any) -> Any:
        left.append(deadline - batcher.clock())
        raise DeadlineError

    monkeypatch.setattr(batcher, "submit", late)
    headers = {"x-timeout-ms": "7000"}
    answer = await client.post(f"{CGAN}/infer", json=seven(), headers=headers)
    assert "X-Timeout-Ms" in refused(answer, 504)
    assert [round(seconds) for seconds in left] == [7]


async def test_a_stopping_service_refuses_with_503(
    client: httpx.AsyncClient, app_of: AppOf
) -> None:
    await app_of(client).state.service.drain(0.0, 0.0, lambda: True)
    answer = await client.post(f"{CGAN}/infer", json=seven())
    assert "stopping" in refused(answer, 503)
    assert answer.headers["retry-after"]


async def test_a_bug_of_ours_is_a_neutral_500(
    client: httpx.AsyncClient, app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Any:
        raise KeyError("private detail")

    with monkeypatch.context() as patch:
        patch.setattr(app_of(client).state.service, "sample", broken)
        answer = await client.post(f"{CGAN}/infer", json=seven())
    assert "private" not in refused(answer, 500)
    await is_right(client)


async def test_only_v2_has_the_protocols_errors(client: httpx.AsyncClient) -> None:
    for path in ("/v2x", "/v20/models", "/generate/v2", "/V2"):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
    refused(await client.get("/v2/models"), 404)


async def test_a_client_that_has_left_is_not_worked_for(
    client: httpx.AsyncClient, app_of: AppOf
) -> None:
    """The ASGI server's word that the connection is closed reaches the batcher."""
    app = app_of(client)
    body = json.dumps(seven()).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{CGAN}/infer",
        "raw_path": f"{CGAN}/infer".encode(),
        "query_string": b"",
        "headers": [(b"host", b"test")],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("test", 80),
        "client": ("test", 1),
        "root_path": "",
    }
    await app(scope, receive, send)
    assert not sent
    metrics = (await client.get("/metrics")).text
    assert 'route="/v2/models/{model}/infer",status="499"} 1.0' in metrics


async def test_the_openapi_has_the_protocol_with_its_own_errors(
    client: httpx.AsyncClient,
) -> None:
    spec = (await client.get("/openapi.json")).json()
    paths = {path: item for path, item in spec["paths"].items() if path.startswith("/v2")}
    assert set(paths) == {
        *("/v2", "/v2/health/live", "/v2/health/ready", "/v2/repository/index"),
        *("/v2/models/{model}", "/v2/models/{model}/ready", "/v2/models/{model}/infer"),
        "/v2/models/{model}/versions/{version}",
        "/v2/models/{model}/versions/{version}/ready",
        "/v2/models/{model}/versions/{version}/infer",
    }
    for item in paths.values():
        for operation in item.values():
            assert operation["tags"] == ["open inference protocol"]
            assert "422" not in operation["responses"]
            for status, answer in operation["responses"].items():
                if status != "200":
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/InferenceError"}
    infer = paths["/v2/models/{model}/infer"]["post"]
    assert {"400", "404", "413", "415", "429", "500", "503", "504"} < set(infer["responses"])
    assert set(infer["requestBody"]["content"]) == {
        *("application/json", "application/octet-stream"),
    }
    assert {p["name"] for p in infer["parameters"]} == {
        *("model", "Inference-Header-Content-Length", "X-Timeout-Ms"),
    }
    example = infer["requestBody"]["content"]["application/json"]["example"]
    assert (await client.post(f"{CGAN}/infer", json=example)).status_code == 200


async def test_a_label_that_is_given_is_the_one_that_is_made_ahead(
    client: httpx.AsyncClient, app_of: Any
) -> None:
    engine = app_of(client).state.service.engine
    engine._beside.add(("tiny-cgan-v1", "generate"))  # whatever a pass costs on a busy machine
    body = {"inputs": [{"name": "label", "shape": [1], "datatype": "INT64", "data": [3]}]}
    told = []
    for _ in range(10):
        answer = await client.post("/v2/models/tiny-cgan-v1/infer", json=body)
        assert answer.status_code == 200
        told.append(answer.headers["server-timing"])
    assert sum('desc="1 of 4", compute;dur=0.00' in timing for timing in told) == 6
