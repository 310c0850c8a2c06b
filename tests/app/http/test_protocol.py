"""Slow, large, broken and many: bytes on a socket."""

import asyncio
import gc
import json
import socket
import time
import weakref
from contextlib import suppress
from typing import Any

import httpx
import pytest

from app.http.protocol import answer_last
from app.main import create_app
from app.settings import Settings

PLAIN = b"GET /generate?label=7&seed=42 HTTP/1.1\r\nHost: test\r\n\r\n"
HEAD = b"POST /encode HTTP/1.1\r\nHost: test\r\nContent-Type: image/png\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: test\r\nCookie: a=b\r\n\r\n"


class Wire:
    """A connection."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._url = client.base_url

    async def __aenter__(self) -> "Wire":
        self.reader, self.writer = await asyncio.open_connection(self._url.host, self._url.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer; its length has to be told."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)
        line, *lines = head.decode().split("\r\n")[:-2]
        headers = dict(row.lower().split(": ", 1) for row in lines)
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(line.split()[1]), headers, body

    async def rest(self) -> bytes:
        """Everything to the end, which comes."""
        return await asyncio.wait_for(self.reader.read(), 30)

    async def refused(self, status: int, slug: str) -> str:
        """A problem, and then the end; its detail."""
        got, headers, body = await self.answer()
        assert got == status, body
        assert headers["content-type"] == "application/problem+json"
        told = json.loads(body)
        assert told["type"] == f"/problems/{slug}"
        assert told["request_id"] == headers["x-request-id"]
        assert headers["connection"] == "close"
        assert await self.rest() == b""
        return str(told["detail"])


async def well(client: httpx.AsyncClient) -> None:
    assert (await client.get("/generate?label=7&seed=42")).status_code == 200


BROKEN: list[tuple[bytes, int, str]] = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400, "malformed-request"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed-request"),
    (b"hello\r\n\r\n", 400, "malformed-request"),
    (b"GET\r\n\r\n", 400, "malformed-request"),
    (b"GET /livez HTTP/3.7\r\nHost: test\r\n\r\n", 400, "malformed-request"),
    (b"GET /li vez HTTP/1.1\r\nHost: test\r\n\r\n", 400, "malformed-request"),
    (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: test\r\n\r\n", 400, "malformed-request"),
    (b"GET /livez HTTP/1.1\r\nHost: test\r\nX-A: a\x00b\r\n\r\n", 400, "malformed-request"),
    (b"GET /livez HTTP/1.1\r\nHost: test\r\nX A: b\r\n\r\n", 400, "malformed-request"),
    (b"GET /livez HTTP/1.1\r\nHost : test\r\n\r\n", 400, "malformed-request"),
    (HEAD + b"Content-Length: -1\r\n\r\n", 400, "malformed-request"),
    (HEAD + b"Content-Length: 1x\r\n\r\nx", 400, "malformed-request"),
    (HEAD + b"Content-Length: 9" + b"9" * 30 + b"\r\n\r\n", 400, "malformed-request"),
    (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400, "malformed-request"),
    (
        HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        *(400, "malformed-request"),
    ),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, "malformed-request"),
    (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: test\r\n\r\n", 414, "uri-too-long"),
    (b"GET /generate?seeds=" + b"1," * 40_000, 414, "uri-too-long"),
    (PLAIN[:-2] + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n", 431, "headers-too-large"),
    (PLAIN[:-2] + b"X-A: " + b"a" * 300_000, 431, "headers-too-large"),
    (PLAIN[:-2] + b"X-A: b\r\n" * 10_000 + b"\r\n", 431, "headers-too-large"),
    (PLAIN[:-2] + b"X-A: b\r\n" * 101, 431, "headers-too-large"),
]


@pytest.mark.parametrize(("data", "status", "slug"), BROKEN)
async def test_what_is_no_request_is_a_problem_and_ends_the_connection(
    wire: httpx.AsyncClient, data: bytes, status: int, slug: str
) -> None:
    async with Wire(wire) as one:
        one.send(data)
        await one.refused(status, slug)
    async with Wire(wire) as one:  # after a good one, and in pieces
        one.send(PLAIN)
        assert (await one.answer())[0] == 200
        for start in range(0, len(data), 20_000):
            one.send(data[start : start + 20_000])
            await asyncio.sleep(0.001)
        await one.refused(status, slug)
    await well(wire)
    metrics = (await wire.get("/metrics")).text
    assert f'{{method="other",route="other",status="{status}"}} 2.0' in metrics


async def test_hosts_and_forms_of_target(wire: httpx.AsyncClient) -> None:
    line = b"GET /generate?label=7&seed=42 HTTP/1.1\r\n"
    for head, status in (
        (line, 400),
        (line + b"Host:\r\n", 400),
        (line + b"Host: test\r\nHost: test\r\n", 400),
        (line + b"Host: public.example.com\r\n", 421),
        (b"GET /generate?label=7&seed=42 HTTP/1.0\r\n", 200),
        (b"GET http://test/generate?label=7&seed=42 HTTP/1.1\r\nHost: test\r\n", 200),
        (b"OPTIONS * HTTP/1.1\r\nHost: test\r\n", 404),
        (b"CONNECT test:80 HTTP/1.1\r\nHost: test\r\n", 400),
    ):
        async with Wire(wire) as one:
            one.send(head + b"\r\n")
            got, _, body = await one.answer()
            assert got == status, body
    await well(wire)


async def test_headers_have_to_come_in_time_however_they_trickle(make_wire: Any) -> None:
    wire = await make_wire(header_seconds=0.4)
    for first in (b"", PLAIN, LIVEZ):
        async with Wire(wire) as one:
            if first:
                one.send(first)
                assert (await one.answer())[0] == 200
            trickle = asyncio.create_task(
                _trickle(one, b"GET /livez HTTP/1.1\r\nX-A: " + b"a" * 999)
            )
            assert "0.4 s" in await one.refused(408, "request-timeout")
            trickle.cancel()
    async with Wire(wire) as one:  # nothing at all: closed without a word
        assert await one.rest() == b""
    async with Wire(wire) as one:  # nor do empty lines keep it open
        one.send(LIVEZ)
        assert (await one.answer())[0] == 200
        trickle = asyncio.create_task(_trickle(one, b"\r\n" * 999))
        await one.refused(408, "request-timeout")
        trickle.cancel()
    await well(wire)


async def test_a_body_has_to_come_in_time_however_it_trickles(make_wire: Any) -> None:
    wire = await make_wire(body_seconds=0.4)
    for head in (
        HEAD + b"Content-Length: 1000\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n",
        HEAD + b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
    ):
        async with Wire(wire) as one:
            one.send(head)
            if b"100-continue" in head:
                assert (await one.answer())[0] == 100
            trickle = asyncio.create_task(_trickle(one, b"a" * 999))
            assert "0.4 s" in await one.refused(408, "request-timeout")
            trickle.cancel()
    # Both in their time: the limits are of each request, not of the connection.
    async with Wire(wire) as one:
        for _ in range(4):
            one.send(HEAD + b"Content-Length: 4\r\n\r\nab")
            await asyncio.sleep(0.2)
            one.send(b"cd")
            assert (await one.answer())[0] == 422
    await well(wire)


async def _trickle(one: Wire, data: bytes) -> None:
    for byte in data:
        one.send(bytes([byte]))
        await asyncio.sleep(0.02)


async def test_a_request_that_takes_long_is_not_taken_for_one_that_comes_late(
    make_wire: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = await make_wire(header_seconds=0.1, body_seconds=0.1)
    backend = app_of(wire).state.service.models["tiny-cgan-v1"].backend
    honest = backend.run

    def slow(*arguments: Any) -> Any:
        time.sleep(0.5)
        return honest(*arguments)

    monkeypatch.setattr(backend, "run", slow)
    async with Wire(wire) as one:
        one.send(PLAIN + PLAIN.replace(b"Host", b"X-A: b\r\nHost") + LIVEZ)
        assert [(await one.answer())[0] for _ in range(3)] == [200, 200, 200]


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(make_wire: Any) -> None:
    wire = await make_wire(max_body_bytes=2000)
    async with Wire(wire) as one:
        one.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 10000000\r\n\r\n")
        await one.refused(413, "body-too-large")  # and no 100 came first
    for announced in (True, False):
        async with Wire(wire) as one:
            kind = b"Content-Length: 10000000" if announced else b"Transfer-Encoding: chunked"
            one.send(HEAD + kind + b"\r\n\r\n")
            for _ in range(100):  # a client that sends all of it before it reads
                one.send(b"ffff\r\n" + bytes(65535) + b"\r\n")
            await one.refused(413, "body-too-large")
    await well(wire)


async def test_a_refusal_waits_for_the_answer_before_it(wire: httpx.AsyncClient) -> None:
    async with Wire(wire) as one:
        one.send(LIVEZ + b"rubbish\r\n\r\n")
        assert (await one.answer())[0] == 200
        assert await one.rest() == b""
    await well(wire)


async def test_an_upgrade_is_not_taken_and_the_request_is_answered(wire: httpx.AsyncClient) -> None:
    for protocol in (b"h2c", b"websocket", b"TLS/1.0"):
        async with Wire(wire) as one:
            upgrade = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
            one.send(HEAD[:-2] + b"\r\n" + upgrade + b"Content-Length: 5\r\n\r\nhello")
            status, headers, _ = await one.answer()
            assert (status, headers["connection"]) == (422, "close")
            assert await one.rest() == b""
        async with Wire(wire) as one:
            one.send(LIVEZ[:-2] + upgrade + b"\r\n")
            status, headers, _ = await one.answer()
            assert (status, headers["connection"]) == (200, "close")
    await well(wire)


async def test_idle_connections_make_room_for_new_ones(make_wire: Any, app_of: Any) -> None:
    wire = await make_wire(max_connections=5)
    idle = []
    for index in range(20):
        one = await Wire(wire).__aenter__()
        idle.append(one)
        if index % 3 == 0:
            one.send(PLAIN)
            assert (await one.answer())[0] == 200
        elif index % 3 == 1:
            one.send(PLAIN[:20])
        assert len(app_of(wire).state.connections()) <= 6
    await well(wire)
    async with Wire(wire) as one:
        one.send(LIVEZ)
        assert (await one.answer())[0] == 200
    for one in idle:
        await one.__aexit__()


@pytest.mark.parametrize("request_", [PLAIN, LIVEZ], ids=["plain", "full"])
async def test_a_connection_that_is_not_used_again_is_closed(
    make_wire: Any, monkeypatch: pytest.MonkeyPatch, request_: bytes
) -> None:
    monkeypatch.setattr("app.http.protocol.KEEP_ALIVE_S", 0.4)
    wire = await make_wire()
    async with Wire(wire) as one, Wire(wire) as other:
        for used in (one, one, other):
            used.send(request_)
            assert (await used.answer())[0] == 200
        assert await one.rest() == b""
        assert await other.rest() == b""
    await well(wire)


async def test_a_connection_that_has_ended_is_not_kept_for_the_collector(
    make_wire: Any, app_of: Any
) -> None:
    wire = await make_wire()
    await well(wire)
    before = set(app_of(wire).state.connections())
    gc.collect()
    gc.disable()
    try:
        async with Wire(wire) as one:
            one.send(HEAD + b"Content-Length: 5\r\n\r\n")
            await asyncio.sleep(0.1)  # so that it waits for the body
            one.send(b"hello")
            assert (await one.answer())[0] in (415, 422)
            new = set(app_of(wire).state.connections()) - before
            left = [weakref.ref(found) for found in new]
            assert len(left) == 1
            new.clear()
        for _ in range(100):
            if not any(ref() for ref in left):
                break
            await asyncio.sleep(0.02)
        assert not any(ref() for ref in left)
    finally:
        gc.enable()


async def test_in_a_storm_of_connections_not_all_are_looked_at_for_each(
    make_wire: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = await make_wire(max_connections=20)
    idle = [await Wire(wire).__aenter__() for _ in range(20)]
    (kind,) = {type(one) for one in app_of(wire).state.connections()}
    honest, asked = kind.waits_since, 0

    def waits_since(self: Any) -> Any:
        nonlocal asked
        asked += 1
        return honest(self)

    monkeypatch.setattr(kind, "waits_since", waits_since)
    for _ in range(10):
        idle.append(await Wire(wire).__aenter__())
        await asyncio.sleep(0.01)  # until it is known that the one closed for it is gone
    assert asked <= 20 + 10 + 1  # all of them once, then the one that goes
    await well(wire)
    for one in idle:
        await one.__aexit__()


@pytest.mark.parametrize("target", ["/v2", "http://localhost/v2", "/%762", "/v2#x", "/v2?a=b"])
async def test_what_is_refused_under_v2_has_its_form_however_it_is_written(
    wire: httpx.AsyncClient, target: str
) -> None:
    async with Wire(wire) as one:
        one.send(f"GET {target} HTTP/1.1\r\nHost: test\r\nA: {'a' * 70_000}\r\n\r\n".encode())
        status, headers, body = await one.answer()
    assert (status, headers["content-type"]) == (431, "application/json")
    assert list(json.loads(body)) == ["error"]


async def test_who_waits_with_half_a_request_behind_is_answered_too(
    make_wire: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = await make_wire()
    entered = asyncio.Event()

    async def never(*_: object) -> None:
        entered.set()
        await asyncio.sleep(30)

    monkeypatch.setattr(app_of(wire).state.service.health, "failing_models", never)
    async with Wire(wire) as one:
        one.send(b"GET /v2/health/ready HTTP/1.1\r\nHost: test\r\n\r\n")
        await asyncio.wait_for(entered.wait(), 10)
        one.send(b"GET /models HTTP/1.1\r\nHost: ")
        await asyncio.sleep(0.05)
        (connection,) = (c for c in app_of(wire).state.connections() if c.cycle is not None)
        connection.answer_last()
        status, headers, body = await one.answer()
        connection.transport.abort()
    assert (status, headers["content-type"]) == (503, "application/json")
    assert json.loads(body) == {"error": "a model hangs"}


@pytest.mark.parametrize(
    ("came", "waits", "path", "media"),
    [
        (b"GET /v2/models/a HTTP/1.1\r\nHost: test\r\n\r\n", False, "", "application/json"),
        (b"GET /models HTTP/1.1\r\nHost: test\r\n\r\n", False, "", "application/problem+json"),
        (b"", True, "/v2/models/a/infer", "application/json"),
        (b"", True, "", "application/problem+json"),
        (b"hello", False, "", "application/problem+json"),
        (b"", False, "", ""),
    ],
)
def test_who_waits_when_the_event_loop_stands_still_is_told_in_the_right_form(
    came: bytes, waits: bool, path: str, media: str
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(came)
        answer_last(ours.fileno(), create_app(Settings()).state.lean, waits, path)
        ours.close()
        answer = theirs.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 503 " if media else "")
    assert f"content-type: {media}\r\n" in answer or not media
    assert ("a model hangs" in answer) == bool(media)


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://localhost/livez", b"localhost", 200),
        (b"http://localhost/models", b"elsewhere.example", 200),  # the target's is the one
        (b"http://elsewhere.example/models", b"localhost", 421),
        (b"http://elsewhere.example:80/generate?label=7", b"localhost", 421),
        (b"http://user@localhost/models", b"localhost", 400),
        (b"http://localhost/models", b"localhost\r\nHost: localhost", 400),
    ],
)
async def test_of_a_whole_address_as_the_target_its_own_host_counts(
    make_wire: Any, target: bytes, host: bytes, status: int
) -> None:
    async with Wire(await make_wire()) as one:
        one.send(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
        assert (await one.answer())[0] == status


async def test_when_all_connections_are_in_use_health_still_answers(
    make_wire: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = await make_wire(max_connections=2)
    service = app_of(wire).state.service
    held: list[Any] = []
    full = asyncio.Event()

    def hold(order: Any, then: Any) -> None:
        held.append((order, then))
        if len(held) == 2:
            full.set()

    monkeypatch.setattr(service, "ask", hold)
    busy = [await Wire(wire).__aenter__() for _ in range(2)]
    for one in busy:
        one.send(PLAIN)
    await asyncio.wait_for(full.wait(), 30)
    for request in (
        PLAIN,
        PLAIN[:-2] + b"X-A: b\r\n\r\n",
        HEAD + b"Content-Length: 5\r\n\r\nhello",
    ):
        async with Wire(wire) as one:
            one.send(request)
            assert "all 2 connections" in await one.refused(503, "overloaded")
    async with Wire(wire) as one:
        one.send(LIVEZ)
        status, headers, _ = await one.answer()
        assert (status, headers["connection"]) == (200, "close")
    monkeypatch.undo()
    for order, then in held:
        service.start_generate(order, then)
    for one in busy:
        assert (await one.answer())[0] == 200
        await one.__aexit__()
    await well(wire)
