"""The fast path over real sockets: the same responses as the full route gives."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.app.http.raw_connection import RawConnection

FAST_QUERIES = [
    f"{model}{label}{n}{seed}".strip("&")
    for model in ("", "&model=tiny-gan-v1", "&model=tiny-cgan-v1", "&model=tiny-vae-v1", "&model=x")
    for label in ("", "&label=7", "&label=10", "&label=x")
    for n in ("", "&n=1", "&n=5", "&n=64", "&n=65", "&n=0", "&n=01")
    for seed in ("&seed=42", "&seed=0", "&seed=9007199254740991", "&seed=9007199254740992")
]
FORMATS = [
    (f"label=7{n}&seed=42{form}", accept)
    for n in ("", "&n=5")
    for form in ("", *(f"&format={form}" for form in ("png", "json", "npy", "zip", "webp", "gif")))
    for accept in (
        *("*/*", "image/png", "image/*", "application/json", "application/x-npy"),
        *("application/zip", "image/webp", "text/html", "application/*"),
    )
]


class FullRoute:
    """Counts the requests that take it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests = 0
        original = FastAPI.__call__

        async def counted(*args: Any) -> None:
            self.requests += 1
            await original(*args)

        monkeypatch.setattr(FastAPI, "__call__", counted)


@pytest.fixture
def full_route(monkeypatch: pytest.MonkeyPatch) -> FullRoute:
    return FullRoute(monkeypatch)


def comparable(response: httpx.Response) -> Any:
    """All of a response that does not change from one time to the next."""
    changing = ("date", "x-request-id", "server-timing", "content-length")
    headers = {k: v for k, v in response.headers.items() if k not in changing}
    if response.status_code == 200:
        return response.status_code, headers, response.content
    return response.status_code, headers, response.json() | {"request_id": ""}


async def both_ways(
    wire: httpx.AsyncClient,
    full_route: FullRoute,
    method: str,
    query: str,
    accept: str = "*/*",
    **headers: str,
) -> bool:
    """Compare a request's responses on both routes; whether the first one was fast.

    A quality in Accept is unusual, so the second request takes the full route to the same response.
    """
    target, before = f"/generate?{query}", full_route.requests
    one = await wire.request(method, target, headers=headers | {"accept": accept})
    fast = full_route.requests == before
    before = full_route.requests
    other = await wire.request(method, target, headers=headers | {"accept": f"{accept};q=0.9"})
    assert full_route.requests == before + 1
    assert comparable(one) == comparable(other), (query, accept)
    return fast


@pytest.mark.slow
async def test_the_fast_path_gives_the_responses_of_the_full_route(
    wire: httpx.AsyncClient, full_route: FullRoute
) -> None:
    digest = (await wire.get("/models/tiny-cgan-v1")).json()["digest"]
    pins = [f"&model=tiny-cgan-v1@{pin}" for pin in (digest, digest[:12], digest[:11], "0" * 12)]
    pinned = [f"{pin}&label=7&n={n}&seed=42".strip("&") for pin in pins for n in (1, 5)]
    fast = 0
    for query in FAST_QUERIES + pinned:
        for method in ("GET", "POST"):
            fast += await both_ways(wire, full_route, method, query)
    assert fast >= 2 * (5 * 4 * 4 * 3 + 3 * 2)  # else it was compared with itself


async def test_the_fast_path_gives_every_format_that_the_full_route_gives(
    wire: httpx.AsyncClient, full_route: FullRoute
) -> None:
    fast = [await both_ways(wire, full_route, "POST", query, accept) for query, accept in FORMATS]
    assert sum(fast) == 2 * 6 * (1 + 4)  # six Accept headers, no format or one of four


@pytest.mark.parametrize("query", ["label=7&seed=42", "n=5&seed=42", "label=10"])
async def test_the_fast_path_ends_a_connection_as_the_full_route_does(
    wire: httpx.AsyncClient, full_route: FullRoute, query: str
) -> None:
    assert await both_ways(wire, full_route, "GET", query, connection="close")
    request = f"GET /generate?{query} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    async with RawConnection(wire) as connection:
        connection.send(request.encode())
        assert (await connection.response())[1]["connection"] == "close"
        assert await connection.rest() == b""


async def test_the_fast_path_counts_and_times_like_the_full_route(make_wire: Any) -> None:
    wire = await make_wire()
    response = await wire.post("/generate?label=7")
    assert "compute;dur=" in response.headers["server-timing"]
    metrics = (await wire.get("/metrics")).text
    assert 'genserve_requests_total{method="POST",route="/generate",status="200"} 1.0' in metrics


@pytest.mark.parametrize("headers", [{}, {"connection": "close"}, {"x-request-id": "mine"}])
async def test_the_fast_path_reports_liveness_as_the_full_route_does(
    wire: httpx.AsyncClient, full_route: FullRoute, headers: dict[str, str]
) -> None:
    before = await _livez_answers(wire)
    full_route.requests = 0
    one = await wire.get("/livez", headers=headers)
    assert full_route.requests == 0
    other = await wire.get("/livez", headers=headers | {"cookie": "a=b"})
    assert full_route.requests == 1
    assert comparable(one) == comparable(other)
    assert one.headers.get("connection") == headers.get("connection")
    assert one.headers["content-length"] == other.headers["content-length"]
    assert one.headers["x-request-id"] == headers.get("x-request-id", one.headers["x-request-id"])
    assert await _livez_answers(wire) == before + 2


async def _livez_answers(wire: httpx.AsyncClient) -> float:
    metrics = (await wire.get("/metrics")).text
    counter = 'genserve_requests_total{method="GET",route="/livez",status="200"} '
    return float(metrics.partition(counter)[2].partition("\n")[0] or 0)


@pytest.mark.parametrize(
    ("method", "target"), [("HEAD", "/livez"), ("POST", "/livez"), ("GET", "/livez?x=1")]
)
async def test_unusual_requests_for_livez_take_the_full_route(
    wire: httpx.AsyncClient, full_route: FullRoute, method: str, target: str
) -> None:
    await wire.request(method, target)
    assert full_route.requests == 1


@pytest.mark.parametrize("query", ["label=7&seed=42", "label=7&seed=42&n=5", "seed=3&format=json"])
async def test_a_304_is_answered_on_the_fast_path_as_on_the_full_route(
    wire: httpx.AsyncClient, full_route: FullRoute, query: str
) -> None:
    whole = await wire.get(f"/generate?{query}")
    tag = whole.headers["etag"]
    known = await wire.get(f"/generate?{query}", headers={"if-none-match": tag})
    other = await wire.get(f"/generate?{query}", headers={"if-none-match": '"another"'})
    posted = await wire.post(f"/generate?{query}", headers={"if-none-match": tag})
    assert full_route.requests == 0
    assert (known.status_code, other.status_code, posted.status_code) == (304, 200, 200)
    assert known.content == b""
    assert other.content == whole.content
    full = await wire.get(f"/generate?{query}", headers={"if-none-match": f'"x", {tag}'})
    assert full_route.requests == 1
    assert full.status_code == 304
    changing = ("date", "x-request-id")
    heads = [
        sorted(set(a.headers.items()) - {(c, a.headers.get(c, "")) for c in changing})
        for a in (full, known)
    ]
    assert heads[0] == heads[1]
