"""The fast path over real sockets: the same responses as the full route gives."""

import random
from collections import Counter
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from app.api.parameters.binding import Binding
from app.api.router import build_router
from app.settings import Settings
from tests.app.full_route import FULL_ROUTE
from tests.app.http.raw_connection import RawConnection, headers_of
from tests.app.parameters import query_values
from tests.hostile import CASES as ALL_CASES
from tests.hostile import Case

(FULL,) = (f"{name}: {value}".encode() for name, value in FULL_ROUTE.items())
KEYS = ("first-key-of-a-client", "second-key-of-a-client")
(NAMES,) = {
    tuple(Binding(route).query)
    for route in build_router(Settings()).routes
    if isinstance(route, APIRoute) and route.path == "/generate"
}
# Lines of headers, of which some matter and some are hostile.
LINES = [
    *(f"Accept: {media}".encode() for media in ("*/*", "image/*", "image/png", "text/html", "")),
    *(b"Accept: application/json", b"Accept: image/webp;q=0.9, application/x-npy;q=1"),
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
    b"Accept: text/html, image/gif, image/jpeg, */*; q=0.2",  # Java's URLConnection
    *(b"accept: image/avif,image/webp,image/apng,*/*;q=0.8", b"ACCEPT:application/zip"),
    *(b"Host: again", b"Host: public.example.com", b"Cookie: a=b; \xe9=\xff", b"X-Empty:"),
    *(b"Origin: http://test", b"Origin: null", b"Origin: http://elsewhere", b"DNT: 1"),
    *(b"Sec-Fetch-Site: same-origin", b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Site: none"),
    *(b"X-Request-ID: mine", b"X-Request-ID: not harmless!", b"X-Request-ID: " + b"x" * 65),
    *(b"X-Timeout-Ms: 30000", b"X-Timeout-Ms: 0", b"X-Timeout-Ms: 1e3", b"X-Timeout-Ms:"),
    *(b"X-Forwarded-For: 203.0.113.7", b"X-Forwarded-For: x, 203.0.113.7:80, 127.0.0.1"),
    *(b"X-Forwarded-Host: localhost", b"X-Forwarded-Host: public.example.com"),
    *(b"X-Forwarded-Prefix: /api", b"X-Forwarded-Prefix: /../..", b"X-Forwarded-Proto: https"),
    *(b'Forwarded: for="[::1]";host=localhost', b'Forwarded: host="', b"Forwarded: a=b=c;;"),
    *(b"Content-Length: 0", b"Content-Length: 00", b"Content-Length: -1", b"Content-Length: 0, 0"),
    *(b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip", b"TE: trailers"),
    *(b"Connection: close", b"Connection: Keep-Alive", b"Connection: x-request-id"),
    *(b"Upgrade: h2c", b"Upgrade-Insecure-Requests: 1", b"Range: bytes=0-9", b"Expect: nothing"),
    *(b'If-None-Match: "x"', b"If-None-Match: *", b"If-None-Match: x", b'If-None-Match: W/"x'),
    *(b"traceparent: 00-1-1-01", b"tracestate: a=b", b"X_Under.Score: 1", b"Accept : */*"),
    *(b" folded", b"no colon", b"X-Null: a\0b", b"X-Bare: a\nb", b"X-Tab:\t\ta\t", b"\xc3\xa4: 1"),
    b"X-Many: 1\r\n" * 99 + b"X-Last: 1",
    *(
        b"Authorization: Bearer first-key-of-a-client",
        b"Authorization: bearer  second-key-of-a-client",
    ),
    *(b"Authorization: Bearer wrong", b"Authorization: Basic first-key-of-a-client"),
]


CASES = [case for case in ALL_CASES if case.target.startswith("/generate") and not case.body]


def draw(chance: random.Random, keyed: bool) -> tuple[bytes, list[bytes]]:
    """A request line, whose images a seed decides, and further lines."""
    query = {}
    for name in NAMES:
        if chance.random() < 0.2:
            values = query_values(name)
            query[name] = chance.choice(values if chance.random() < 0.2 else values[:2])
    if query.keys().isdisjoint({"seed", "seeds"}):
        query["seed"] = "42"
    pairs = list(query.items())
    chance.shuffle(pairs)
    if chance.random() < 0.05:
        pairs.append(chance.choice([("lable", "7"), ("", ""), pairs[0], ("seed", "1")]))
    text = urlencode(pairs) if chance.random() < 0.9 else "&".join("=".join(p) for p in pairs)
    text = text.replace("7", "%37") if chance.random() < 0.1 else text
    text += chance.choice(["", "", "", "", "", "", "&", "#x", "?x", "&x=%zz", "+"])
    method = chance.choice(["GET"] * 4 + ["POST"] * 4 + ["HEAD", "PUT"])
    path = chance.choice(["/generate"] * 9 + ["/generate/"])
    lines = chance.sample(LINES, chance.choice([0, 0, 1, 2, 3]))
    if keyed and chance.random() < 0.8:
        lines.append(b"Authorization: Bearer first-key-of-a-client")
    return f"{method} {path}?{text}".encode("ascii", "replace"), lines


class FullRoute:
    """Counts the requests that take it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests = 0
        original = FastAPI.__call__

        async def counted(app: FastAPI, scope: Any, receive: Any, send: Any) -> None:
            self.requests += scope["type"] == "http"
            await original(app, scope, receive, send)

        monkeypatch.setattr(FastAPI, "__call__", counted)


@pytest.fixture
def full_route(monkeypatch: pytest.MonkeyPatch) -> FullRoute:
    return FullRoute(monkeypatch)


def comparable(response: tuple[int, dict[str, str], bytes]) -> Any:
    """All of a response that does not change from one time to the next."""
    status, headers, body = response
    request_id = headers.pop("x-request-id").encode()
    changing = ("date", "server-timing")
    kept: dict[str, Any] = {name: headers[name] for name in headers if name not in changing}
    kept["vary"] = set(headers.get("vary", "").split(", "))
    if not status < 400:  # the id is as long in all, unless the client has chosen it
        body = body.replace(request_id, b"ID") if request_id else body
    return status, kept, body


async def raw_response(wire: httpx.AsyncClient, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """What these bytes get on a connection of their own."""
    async with RawConnection(wire) as connection:
        connection.send(data)
        try:
            if data.startswith(b"HEAD"):
                head = await connection.reader.readuntil(b"\r\n\r\n")
                line, *lines = head.decode().split("\r\n")[:-2]
                return int(line.split()[1]), headers_of(lines), b""
            return await connection.response()
        except OSError as error:
            error.add_note(f"after {data!r}")
            raise


async def same_on_both(
    wire: httpx.AsyncClient, full_route: FullRoute, start: bytes, lines: list[bytes]
) -> tuple[bool, int]:
    """Compare a request's responses on both routes; whether the first one was fast, and status."""
    end = b"\r\n\r\n"
    head = b"\r\n".join([start + b" HTTP/1.1", b"Host: test", *lines])
    before = full_route.requests
    one = await raw_response(wire, head + end)
    fast = full_route.requests == before and one[0] != 400
    other = await raw_response(wire, head + b"\r\n" + FULL + end)
    assert comparable(one) == comparable(other), head
    return fast, one[0]


PRODUCTION = {"api_keys": ",".join(KEYS), "trusted_proxies": "127.0.0.0/8", "root_path": "/root"}
OPEN: dict[str, str] = {}
PAGES = {"cors_origins": "http://elsewhere", "max_n": 4}


@pytest.mark.parametrize(
    "settings", [OPEN, PRODUCTION, PAGES], ids=["open", "keys and proxies", "pages"]
)
async def test_the_fast_path_gives_the_responses_of_the_full_route(
    make_wire: Any, full_route: FullRoute, settings: dict[str, Any]
) -> None:
    """Over requests drawn from the whole table of parameters, and headers good and hostile."""
    wire, chance = await make_wire(**settings), random.Random(len(settings))
    outcomes: Counter[tuple[bool, int]] = Counter()
    for _ in range(300):
        start, lines = draw(chance, keyed="api_keys" in settings)
        outcomes[await same_on_both(wire, full_route, start, lines)] += 1
    # Else it was compared with itself.
    assert outcomes[True, 200] > 30, outcomes
    assert {status for fast, status in outcomes if fast} > {200, 422}
    assert {status for fast, status in outcomes if not fast} > {200, 400, 422}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_hostile_requests_for_images_are_refused_alike_on_both_routes(
    wire: httpx.AsyncClient, full_route: FullRoute, case: Case
) -> None:
    start = f"{case.method} {case.target}".encode()
    lines = [f"{name}: {value}".encode() for name, value in case.headers]
    fast, status = await same_on_both(wire, full_route, start, lines)
    assert status == case.status, fast


@pytest.mark.parametrize("query", ["label=7&seed=42", "n=5&seed=42", "label=10&seed=1"])
async def test_the_fast_path_ends_a_connection_as_the_full_route_does(
    wire: httpx.AsyncClient, full_route: FullRoute, query: str
) -> None:
    start, lines = f"GET /generate?{query}".encode(), [b"Connection: close"]
    assert (await same_on_both(wire, full_route, start, lines))[0]
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
    lines = [f"{name}: {value}".encode() for name, value in headers.items()]
    assert await same_on_both(wire, full_route, b"GET /livez", lines) == (True, 200)
    one = await wire.get("/livez", headers=headers)
    assert full_route.requests == 1
    assert one.headers.get("connection") == headers.get("connection")
    assert one.headers["x-request-id"] == headers.get("x-request-id", one.headers["x-request-id"])
    assert await _livez_answers(wire) == before + 3


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
    start = f"GET /generate?{query}".encode()
    for names in (tag, f'"x", {tag}', "*", f"W/{tag}"):
        line = f"If-None-Match: {names}".encode()
        assert await same_on_both(wire, full_route, start, [line]) == (True, 304)
