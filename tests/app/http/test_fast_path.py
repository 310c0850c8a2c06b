"""The short way of plain requests, over real sockets: the same answers as the full one gives."""

import asyncio
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from app.http.access import Hosts
from app.http.fast_path import Plain
from app.http.fast_path import parse as parse_with


def parse(data: bytes, max_n: int) -> Plain | None:
    return parse_with(data, max_n, Hosts().allows)


LEAN_QUERIES = [
    f"{model}{label}{n}{seed}".strip("&")
    for model in ("", "&model=tiny-gan-v1", "&model=tiny-cgan-v1", "&model=tiny-vae-v1", "&model=x")
    for label in ("", "&label=7", "&label=10", "&label=x")
    for n in ("", "&n=1", "&n=5", "&n=64", "&n=65", "&n=0", "&n=01")
    for seed in ("&seed=42", "&seed=0", "&seed=9007199254740991", "&seed=9007199254740992")
]


FORMS = [
    (f"label=7{n}&seed=42{form}", accept)
    for n in ("", "&n=5")
    for form in ("", *(f"&format={form}" for form in ("png", "json", "npy", "zip", "webp", "gif")))
    for accept in (
        *("*/*", "image/png", "image/*", "application/json", "application/x-npy"),
        *("application/zip", "image/webp", "text/html", "application/*"),
    )
]


class Counted:
    """What goes the full way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests = 0
        through = FastAPI.__call__

        async def counted(*args: Any) -> None:
            self.requests += 1
            await through(*args)

        monkeypatch.setattr(FastAPI, "__call__", counted)


def comparable(answer: httpx.Response) -> Any:
    changing = ("date", "x-request-id", "server-timing", "content-length")
    headers = {k: v for k, v in answer.headers.items() if k not in changing}
    if answer.status_code == 200:
        return answer.status_code, headers, answer.content
    return answer.status_code, headers, answer.json() | {"request_id": ""}


async def both_ways(
    wire: httpx.AsyncClient,
    full: Counted,
    method: str,
    query: str,
    accept: str = "*/*",
    **more: str,
) -> bool:
    """Compare the two answers to a request; whether one was given by the short way.

    An Accept header with a quality is unusual, so it takes the full route to the same answer.
    """
    before = full.requests
    one = await wire.request(method, f"/generate?{query}", headers=more | {"accept": accept})
    lean = full.requests == before
    before = full.requests
    more["accept"] = f"{accept};q=0.9"
    other = await wire.request(method, f"/generate?{query}", headers=more)
    assert full.requests == before + 1
    assert comparable(one) == comparable(other), (query, accept)
    return lean


async def test_the_lean_path_gives_the_answers_of_the_full_route(
    wire: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Counted(monkeypatch)
    digest = (await wire.get("/models/tiny-cgan-v1")).json()["digest"]
    pins = [f"&model=tiny-cgan-v1@{pin}" for pin in (digest, digest[:12], digest[:11], "0" * 12)]
    pinned = [f"{pin}&label=7&n={n}&seed=42".strip("&") for pin in pins for n in (1, 5)]
    lean = 0
    for query in LEAN_QUERIES + pinned:
        for method in ("GET", "POST"):
            lean += await both_ways(wire, full, method, query)
    assert lean >= 2 * (5 * 4 * 4 * 3 + 3 * 2)  # and the others did not, where they are plain


async def test_the_lean_path_gives_every_form_that_the_full_route_gives(
    wire: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Counted(monkeypatch)
    lean = [await both_ways(wire, full, "POST", query, accept) for query, accept in FORMS]
    assert sum(lean) == 2 * 6 * (1 + 4)  # six Accept headers, no format or one of four


@pytest.mark.parametrize("query", ["label=7&seed=42", "n=5&seed=42", "label=10"])
async def test_the_lean_path_ends_a_connection_as_the_full_route_does(
    wire: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    full = Counted(monkeypatch)
    assert await both_ways(wire, full, "GET", query, connection="close")
    plain_one = f"GET /generate?{query} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection(wire.base_url.host, wire.base_url.port)
    writer.write(plain_one.encode())
    head, _, _ = (await reader.read()).partition(b"\r\n\r\n")  # to the end
    assert b"\r\nconnection: close" in head
    writer.close()


@pytest.mark.parametrize("more", [{}, {"connection": "close"}, {"x-request-id": "mine"}])
async def test_that_the_process_lives_is_told_as_the_full_route_tells_it(
    wire: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    full = Counted(monkeypatch)
    one = await wire.get("/livez", headers=more)
    assert full.requests == 0
    other = await wire.get("/livez", headers=more | {"cookie": "a=b"})
    assert full.requests == 1
    assert comparable(one) == comparable(other)
    assert one.headers.get("connection") == more.get("connection")
    assert one.headers["content-length"] == other.headers["content-length"]
    assert one.headers["x-request-id"] == more.get("x-request-id", one.headers["x-request-id"])
    metrics = (await wire.get("/metrics")).text
    assert 'genserve_requests_total{method="GET",route="/livez",status="200"} 2.0' in metrics


@pytest.mark.parametrize(
    ("method", "target"), [("HEAD", "/livez"), ("POST", "/livez"), ("GET", "/livez?x=1")]
)
async def test_what_is_unusual_about_livez_goes_the_full_way(
    wire: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, method: str, target: str
) -> None:
    full = Counted(monkeypatch)
    await wire.request(method, target)
    assert full.requests == 1


async def test_the_lean_path_counts_and_times_like_the_full_route(
    wire: httpx.AsyncClient,
) -> None:
    answer = await wire.post("/generate?label=7")
    assert "compute;dur=" in answer.headers["server-timing"]
    metrics = (await wire.get("/metrics")).text
    assert 'genserve_requests_total{method="POST",route="/generate",status="200"} 1.0' in metrics


async def talk(wire: httpx.AsyncClient, *pieces: bytes, answers: int) -> list[tuple[bytes, bytes]]:
    """Send pieces with a pause between; head and body of each answer on the connection."""
    url = wire.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.05)
        found = []
        for _ in range(answers):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            length = re.search(rb"content-length: (\d+)", head)
            assert length
            found.append((head, await reader.readexactly(int(length.group(1)))))
        return found
    finally:
        writer.close()
        await writer.wait_closed()


def plain(seed: int) -> bytes:
    return f"POST /generate?label=7&seed={seed} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


UNUSUAL = b"GET /livez HTTP/1.1\r\nHost: test\r\nCookie: a=b\r\n\r\n"
WITH_BODY = b"POST /decode HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
WITH_BODY += b'Content-Length: 8\r\n\r\n{"z": 1}'


@pytest.mark.parametrize(
    "pieces",
    [
        [plain(1) + plain(2) + plain(3)],
        [plain(1), plain(2), plain(3)],
        [plain(1)[:30], plain(1)[30:] + plain(2), plain(3)],
        [plain(1) + plain(2)[:20], plain(2)[20:], plain(3)],
        [plain(1) + plain(2) + plain(3)[:-1], plain(3)[-1:]],
        [*(plain(1)[i : i + 1] for i in range(20)), plain(1)[20:], plain(2) + plain(3)],
    ],
)
async def test_however_requests_are_cut_they_are_answered_in_order(
    wire: httpx.AsyncClient, pieces: list[bytes]
) -> None:
    expected = [(await wire.post(f"/generate?label=7&seed={n}")).content for n in (1, 2, 3)]
    assert len(set(expected)) == 3
    assert [body for _, body in await talk(wire, *pieces, answers=3)] == expected


async def test_plain_and_unusual_requests_follow_each_other_on_one_connection(
    wire: httpx.AsyncClient,
) -> None:
    expected = (await wire.post("/generate?label=7&seed=1")).content
    pieces = [plain(1) + UNUSUAL, UNUSUAL + plain(1), WITH_BODY, plain(1)]
    found = await talk(wire, *pieces, answers=6)
    assert [head[9:12] for head, _ in found] == [b"200"] * 4 + [b"422", b"200"]
    assert [body for _, body in found if body.startswith(b"\x89PNG")] == [expected] * 3


async def test_a_plain_request_that_comes_while_another_is_answered_waits(
    wire: httpx.AsyncClient,
) -> None:
    """Many at once on one connection."""
    asked = [0, 1, 2, *range(300)]
    alone = {seed: (await talk(wire, plain(seed), answers=1))[0][1] for seed in range(0, 300, 23)}
    found = await talk(wire, *map(plain, asked[:3]), b"".join(map(plain, asked[3:])), answers=303)
    for seed, (_, body) in zip(asked, found, strict=True):
        assert body == alone.get(seed, body)
    assert len({body for _, body in found}) > 200


async def test_blanks_around_a_header_are_no_part_of_it(wire: httpx.AsyncClient) -> None:
    line = b"X-Request-ID:  \t mine \t \r\n\r\n"
    for end in (line, b"Cookie: a=b\r\n" + line):  # the short way and the full one
        [(head, _)] = await talk(wire, plain(1)[:-2] + end, answers=1)
        assert b"\r\nx-request-id: mine\r\n" in head


@pytest.mark.parametrize(
    "line",
    [
        b"Host: again",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 1",
        b"Content-Length: 00",
        b"Connection: upgrade",
        b"Expect: 100-continue",
        b"Accept: image/webp",
        b"If-None-Match: x",
        b"Origin: http://elsewhere",
        b"X-Timeout-Ms: 0",
        b"X-Request-ID: not harmless!",
        b"X-Anything: else",
        b" folded",
        b"no colon",
        b"Accept : */*",
    ],
)
def test_an_unusual_header_takes_the_full_way(line: bytes) -> None:
    request = b"POST /generate?label=7 HTTP/1.1\r\nHost: test\r\n"
    assert parse(request + b"\r\n", 64)
    assert parse(request + line + b"\r\n\r\n", 64) is None


@pytest.mark.parametrize(
    "start",
    [
        b"POST /generate?label=7 HTTP/1.0",
        b"POST /generate?label=%37 HTTP/1.1",
        b"POST /generate?label=7#x HTTP/1.1",
        b"POST //generate?label=7 HTTP/1.1",
        b"POST http://test/generate?label=7 HTTP/1.1",
        b"HEAD /generate?label=7 HTTP/1.1",
        b"post /generate?label=7 HTTP/1.1",
        b"POST  /generate?label=7 HTTP/1.1",
        b"POST /generate?label=7&label=7 HTTP/1.1",
        b"POST /generate?n=65 HTTP/1.1",
        b"POST /generate?n=07 HTTP/1.1",
        b"POST /generate?seed=9007199254740992 HTTP/1.1",
        b"POST /generate?scale=2 HTTP/1.1",
        b"POST /generate? HTTP/1.1 HTTP/1.1",
    ],
)
def test_an_unusual_request_line_takes_the_full_way(start: bytes) -> None:
    assert parse(start + b"\r\nHost: test\r\n\r\n", 64) is None


@given(st.binary(max_size=300))
def test_no_bytes_make_the_parser_fail(data: bytes) -> None:
    assert parse(data, 64) is None
    for position in range(0, len(plain(1)), 7):
        parse(plain(1)[:position] + data + plain(1)[position:], 64)


async def test_uploads_are_not_kept(wire: httpx.AsyncClient, app_of: Any) -> None:
    lean = app_of(wire).state.lean
    secret = b"POST /encode HTTP/1.1\r\nHost: test\r\nAuthorization: secret\r\n\r\n"
    for size in (0, 100, 10_000):
        assert lean.parse(secret + bytes(size)) is None
        assert lean.parse(plain(1) + bytes(size or 1)) is None
    assert lean.parse(plain(1))
    assert lean._parse.cache_info().currsize <= 3


@pytest.mark.parametrize(
    ("query", "seed"),
    [
        (b"seed=1", 1),
        (b"seed=0", 0),
        (b"label=7&seed=9007199254740991&n=1", 9007199254740991),
        (b"seed=9007199254740992", None),
        (b"seed=12345678901234567", None),
        (b"seed=07", None),
        (b"seed=7&seed=8", None),
        (b"seed=8&xseed=7", None),
        (b"label=seed=7", None),
        (b"seed=", None),
    ],
)
async def test_a_seed_is_read_as_if_no_request_had_been_kept(
    wire: httpx.AsyncClient, app_of: Any, query: bytes, seed: int | None
) -> None:
    lean, request = app_of(wire).state.lean, b"GET /generate?%b HTTP/1.1\r\nHost: a\r\n\r\n"
    for _ in range(2):
        assert lean.parse(request % query) == parse(request % query, 64)
        assert getattr(lean.parse(request % query), "seed", None) == seed
        lean.parse(request % b"seed=5")
    # What stands in a header is no seed of the request.
    header = b"GET /generate HTTP/1.1\r\nHost: a\r\nUser-Agent: x?seed=%b \r\n\r\n"
    assert lean.parse(header % b"7").seed is None
    assert lean._parse.cache_info().currsize <= 12


async def test_a_stop_finishes_the_answer_and_closes_the_connection(
    make_wire: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = await make_wire()
    service = app_of(wire).state.service
    begun = asyncio.Event()
    honest = service.start_generate
    held: list[Any] = []

    def hold(request: Any, on_done: Any) -> None:
        held.append((request, on_done))
        begun.set()

    monkeypatch.setattr(service, "start_generate", hold)
    url = wire.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(plain(1))
    await begun.wait()
    for connection in list(app_of(wire).state.connections()):
        connection.shutdown()
    honest(*held[0])
    answer = await asyncio.wait_for(reader.read(), 30)  # to the end: it is closed
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"\r\nconnection: close\r\n" in answer
    writer.close()
    await writer.wait_closed()
