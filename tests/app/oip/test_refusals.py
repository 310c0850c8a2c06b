"""What the Open Inference Protocol refuses, each time with a good request after it."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from tests.app.oip.helpers import CGAN, SIZE, is_right, outputs_of, refused, seven


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


PACKED = gzip.compress(b"{}", mtime=0)  # without the time, which would be in the tests' names

HOSTILE: list[tuple[str, Any, dict[str, str], int, str]] = [
    ("/v2/models/nobody/infer", seven(), {}, 404, "available: tiny-cgan-v1"),
    ("/v2/models/tiny-cgan-v/infer", seven(), {}, 404, "did you mean tiny-cgan-v1?"),
    ("/v2/models/tiny-cgan-v1.encode/infer", seven(), {}, 404, "unknown model"),
    ("/v2/models/tiny-vae-v1.generate/infer", seven(), {}, 404, "unknown model"),
    ("/v2/models/%3Cscript%3E%E2%80%AE/infer", seven(), {}, 404, r"'<script>\u202e'"),
    (f"/v2/models/{'x' * 3000}/infer", seven(), {}, 404, "unknown model"),
    ("/v2/models/..%2F..%2Fetc/infer", seven(), {}, 404, "nothing at"),
    (f"{CGAN}/versions/2/infer", seven(), {}, 404, "only version is 1"),
    (f"{CGAN}/versions/01/infer", seven(), {}, 404, "only version is 1"),
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


async def test_a_body_is_read_up_to_the_setting_at_most(make_client: Any) -> None:
    client = await make_client(max_body_bytes=1024)
    answer = await client.post(f"{CGAN}/infer", content=b" " * 1025)
    assert "at most 1024" in refused(answer, 413)
    assert answer.headers["connection"] == "close"
    await is_right(client)
