"""Broken, oversized and oddly addressed requests: what each is answered with, byte for byte."""

import json
import re
from typing import Any

import httpx
import pytest

from tests.app.http.raw_connection import (
    FAST,
    LIVEZ,
    UPLOAD_HEAD,
    RawConnection,
    assert_serves,
    pieces_of,
)

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
    (UPLOAD_HEAD + b"Content-Length: -1\r\n\r\n", 400, "malformed-request"),
    (UPLOAD_HEAD + b"Content-Length: 1x\r\n\r\nx", 400, "malformed-request"),
    (UPLOAD_HEAD + b"Content-Length: 9" + b"9" * 30 + b"\r\n\r\n", 400, "malformed-request"),
    (
        UPLOAD_HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        *(400, "malformed-request"),
    ),
    (
        UPLOAD_HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        *(400, "malformed-request"),
    ),
    *(
        (UPLOAD_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + rest, 400, "malformed-request")
        for rest in (
            *(b"xyz\r\n", b"-1\r\n", b"0x1\r\nx\r\n0\r\n\r\n", b"1\nx\n0\n\n", b"f" * 18 + b"\r\n"),
            b"1\r\nx\r\n" * 5000,  # tiny chunks, each a call
            b"1;" + b"e" * 200 + b"\r\nx\r\n" * 5000,
            b"1;" + b"e" * 10**6,  # an extension, which is no part of the body
            b"ff;%b\r\n%b\r\n" % (b"e" * 9000, bytes(255)) * 100,
        )
    ),
    (
        UPLOAD_HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 10_000,
        *(431, "headers-too-large"),
    ),
    (
        UPLOAD_HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")
        + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        *(400, "malformed-request"),
    ),
    (FAST[:-2] + b"X-A: b\r\n c\r\n\r\n", 400, "malformed-request"),  # folded
    (FAST[:-2] + b"X-A: b\rc\r\n\r\n", 400, "malformed-request"),
    (FAST.replace(b"\r\n", b"\n"), 400, "malformed-request"),
    (b"A" * 5000 + FAST, 400, "malformed-request"),
    (b"\r\n" * 200_000, 431, "headers-too-large"),
    (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: test\r\n\r\n", 414, "uri-too-long"),
    (b"GET /generate?seeds=" + b"1," * 40_000, 414, "uri-too-long"),
    (FAST[:-2] + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n", 431, "headers-too-large"),
    (FAST[:-2] + b"X-A: " + b"a" * 300_000, 431, "headers-too-large"),
    (FAST[:-2] + b"X-A: b\r\n" * 10_000 + b"\r\n", 431, "headers-too-large"),
    (FAST[:-2] + b"X-A: b\r\n" * 101, 431, "headers-too-large"),
]


@pytest.mark.parametrize(("data", "status", "slug"), BROKEN)
async def test_what_is_no_request_is_answered_with_a_problem_and_ends_the_connection(
    wire: httpx.AsyncClient, data: bytes, status: int, slug: str
) -> None:
    before = await _refused(wire, status)
    async with RawConnection(wire) as connection:
        connection.send(data)
        await connection.refused(status, slug)
    async with RawConnection(wire) as connection:  # after a good one, and in pieces
        connection.send(FAST)
        assert (await connection.response())[0] == 200
        for piece in pieces_of(data, 20_000):
            connection.send(piece)
            await connection.writer.drain()
        await connection.refused(status, slug)
    await assert_serves(wire)
    assert await _refused(wire, status) == before + 2


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("GET /generate?label=é HTTP/1.1\r\nHost: test\r\n\r\n".encode(), "percent-encode all"),
        (FAST[:-2] + b"X-A: b\r\n c\r\n\r\n", "whitespace after header value"),
        (FAST.replace(b"=7", b"=a b"), "percent-encode all"),
        (b"CONNECT test:80 HTTP/1.1\r\nHost: test\r\n\r\n", "'test:80'; it must be a path"),
        (FAST.replace(b"/generate", b"http://test:99999/"), "it must be a path"),
    ],
)
async def test_what_is_no_request_is_told_why(
    wire: httpx.AsyncClient, data: bytes, said: str
) -> None:
    async with RawConnection(wire) as connection:
        connection.send(data)
        _, _, body = await connection.response()
        assert said in json.loads(body)["detail"]


async def _refused(wire: httpx.AsyncClient, status: int) -> float:
    """What was no request and was answered with this status, by /metrics."""
    metrics = (await wire.get("/metrics")).text
    found = re.search(f'{{method="other",route="other",status="{status}"}} (.*)', metrics)
    return float(found[1]) if found else 0


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
        async with RawConnection(wire) as connection:
            connection.send(head + b"\r\n")
            got, _, body = await connection.response()
            assert got == status, body
    await assert_serves(wire)


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://localhost/livez", b"localhost", 200),
        (b"http://localhost/models", b"elsewhere.example", 200),
        (b"http://localhost", b"localhost", 200),
        (b"http://localhost?", b"localhost", 200),
        (b"http://elsewhere.example/models", b"localhost", 421),
        (b"http://elsewhere.example", b"localhost", 421),
        (b"http://", b"localhost", 400),
        (b"http://elsewhere.example:80/generate?label=7", b"localhost", 421),
        (b"http://user@localhost/models", b"localhost", 400),
        (b"http://localhost/models", b"localhost\r\nHost: localhost", 400),
    ],
)
async def test_the_host_of_an_absolute_target_goes_before_the_host_header(
    wire: httpx.AsyncClient, target: bytes, host: bytes, status: int
) -> None:
    async with RawConnection(wire) as connection:
        connection.send(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
        assert (await connection.response())[0] == status


async def test_a_client_of_http_1_0_gets_no_interim_response(wire: httpx.AsyncClient) -> None:
    head = UPLOAD_HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    for version, status in ((b"1.1", 100), (b"1.0", 422)):
        async with RawConnection(wire) as connection:
            connection.send(head.replace(b"HTTP/1.1", b"HTTP/" + version) + b"hello")
            assert (await connection.response())[0] == status


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(make_wire: Any) -> None:
    wire = await make_wire(max_body_bytes=2000)
    async with RawConnection(wire) as connection:
        connection.send(UPLOAD_HEAD + b"Expect: 100-continue\r\nContent-Length: 10000000\r\n\r\n")
        await connection.refused(413, "body-too-large")  # and no 100 came first
    for framing in (b"Content-Length: 10000000", b"Transfer-Encoding: chunked"):
        async with RawConnection(wire) as connection:
            connection.send(UPLOAD_HEAD + framing + b"\r\n\r\n")
            for _ in range(100):  # a client that sends all of it before it reads
                connection.send(b"ffff\r\n" + bytes(65535) + b"\r\n")
            await connection.refused(413, "body-too-large")
    await assert_serves(wire)


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_an_upgrade_that_is_not_taken_changes_nothing(
    wire: httpx.AsyncClient, size: int
) -> None:
    body = json.dumps({"z": [[0.5, 0.5, 0.5]]}).encode()
    rest = b"Content-Type: application/json\r\nHost: test\r\n"
    whole = rest + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunked = rest + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    requests = [
        b"POST /decode?format=npy HTTP/1.1\r\n%b" + whole,
        b"POST http://test/decode?format=npy HTTP/1.1\r\n%b" + chunked,
        b"GET /generate?label=7&seed=42 HTTP/1.1\r\nHost: test\r\n%b\r\n",
        b"POST /nothing HTTP/1.1\r\n%b" + whole,
    ]
    offers = [
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        b"Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        b"Upgrade: TLS/1.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n",
    ]

    async def answers(offer: bytes) -> list[tuple[int, bytes]]:
        async with RawConnection(wire) as connection:
            for piece in pieces_of(b"".join(request % offer for request in requests), size):
                connection.send(piece)
            responses = [await connection.response() for _ in requests]
        assert all("connection" not in headers for _, headers, _ in responses)
        # A problem has the number of its request.
        return [(status, body if status == 200 else b"") for status, _, body in responses]

    expected = await answers(b"")
    assert [status for status, _ in expected] == [200, 200, 200, 404]
    for offer in offers:
        assert await answers(offer) == expected


async def test_an_offer_to_upgrade_does_not_keep_a_connection_that_is_to_close(
    wire: httpx.AsyncClient,
) -> None:
    async with RawConnection(wire) as connection:
        connection.send(LIVEZ[:-2] + b"Connection: close, upgrade\r\nUpgrade: h2c\r\n\r\n")
        status, headers, _ = await connection.response()
        assert (status, headers["connection"]) == (200, "close")
        assert await connection.rest() == b""
    await assert_serves(wire)


@pytest.mark.parametrize("target", ["/v2", "http://localhost/v2", "/%762", "/v2#x", "/v2?a=b"])
async def test_a_refusal_under_v2_has_its_form_however_the_path_is_written(
    wire: httpx.AsyncClient, target: str
) -> None:
    async with RawConnection(wire) as connection:
        head = f"GET {target} HTTP/1.1\r\nHost: test\r\nA: {'a' * 70_000}\r\n\r\n"
        connection.send(head.encode())
        status, headers, body = await connection.response()
    assert (status, headers["content-type"]) == (431, "application/json")
    assert list(json.loads(body)) == ["error"]


async def test_no_packet_begins_any_number_of_requests(wire: httpx.AsyncClient) -> None:
    """512 wait at most; the others have to be sent again."""
    request = b"GET /models HTTP/1.1\r\nHost: test\r\n\r\n"
    async with RawConnection(wire) as connection:
        connection.send(request * 1500)
        answered = (await connection.rest()).count(b"HTTP/1.1 200 OK")
    assert 512 <= answered < 550
    await assert_serves(wire)
