"""Clients that end their side after a request, that leave, and transfer codings: over a socket."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.app.http.raw_connection import FAST, UPLOAD_HEAD, RawConnection, assert_serves
from tests.hostile import picture

SLOW = (
    b"POST /encode HTTP/1.1\r\nHost: test\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
)
SEVERAL = b"GET /generate?n=3&format=webp HTTP/1.1\r\nHost: test\r\n\r\n"
DATASET = b"POST /dataset?n=300 HTTP/1.1\r\nHost: test\r\n\r\n"
PLAIN = {
    "fast": FAST,
    "full": SEVERAL,
    "upload": SLOW % len(picture()) + picture(),
    "not found": b"GET /nothing HTTP/1.1\r\nHost: test\r\n\r\n",
    "file": b"GET /static/index.html HTTP/1.1\r\nHost: test\r\n\r\n",
}


@pytest.mark.parametrize("request_", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("wait", [False, True])
async def test_a_request_whose_client_has_ended_its_side_is_answered_and_then_closed(
    wire: httpx.AsyncClient, request_: bytes, wait: bool
) -> None:
    async with RawConnection(wire) as connection:
        connection.send(request_)
        if wait:  # the end comes in a packet of its own
            await asyncio.sleep(0.01)
        connection.writer.write_eof()
        status, _, _ = await connection.response()
        assert status in (200, 404)
        assert await connection.rest() == b""


async def test_pipelined_requests_before_the_end_are_all_answered(wire: httpx.AsyncClient) -> None:
    async with RawConnection(wire) as connection:
        connection.send(SEVERAL + FAST + SEVERAL)
        connection.writer.write_eof()
        for _ in range(3):
            assert (await connection.response())[0] == 200
        assert await connection.rest() == b""


async def test_a_stream_goes_on_after_the_end_of_its_clients_side(wire: httpx.AsyncClient) -> None:
    async with RawConnection(wire) as connection:
        connection.send(DATASET)
        connection.writer.write_eof()
        data = await connection.rest()
    assert data.startswith(b"HTTP/1.1 200 OK")
    assert data.endswith(b"\r\n0\r\n\r\n")


async def test_a_request_that_is_not_whole_at_the_end_is_none(wire: httpx.AsyncClient) -> None:
    for part in (FAST[:-2], b"", UPLOAD_HEAD + b"Content-Length: 9\r\n\r\n1234"):
        async with RawConnection(wire) as connection:
            connection.send(part)
            connection.writer.write_eof()
            assert await connection.rest() == b""
    await assert_serves(wire)


async def test_a_client_that_ends_later_has_given_up_and_is_not_computed_for(
    wire: httpx.AsyncClient, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = app_of(wire).state.service
    left: list[bool] = []
    held = asyncio.Event()

    def hold(request: Any, on_done: Any) -> None:
        left.append(request.context.disconnected)
        held.set()

    monkeypatch.setattr(service, "start_generate", hold)
    async with RawConnection(wire) as connection:
        connection.send(FAST)
        await asyncio.wait_for(held.wait(), 30)
        await asyncio.sleep(0.3)
        connection.writer.write_eof()
        assert await connection.rest() == b""
    assert left[0]()  # type: ignore[operator]


CODINGS = [
    ("Transfer-Encoding: gzip, chunked", 501),
    ("Transfer-Encoding: gzip", 501),
    ("Transfer-Encoding: chunked, gzip", 400),
    ("Transfer-Encoding: identity", 501),
    ("Transfer-Encoding: xchunked", 501),
    ("Transfer-Encoding: chunked;q=1", 501),
    ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
]


@pytest.mark.parametrize(("lines", "status"), CODINGS)
async def test_a_transfer_coding_other_than_chunked_is_refused_and_the_connection_closed(
    wire: httpx.AsyncClient, lines: str, status: int
) -> None:
    slug = {501: "unsupported-transfer-coding", 400: "malformed-request"}[status]
    async with RawConnection(wire) as connection:
        connection.send(UPLOAD_HEAD + lines.encode() + b"\r\n\r\n0\r\n\r\n" + FAST)
        await connection.refused(status, slug)


async def test_chunked_is_read_however_it_is_written(wire: httpx.AsyncClient) -> None:
    data = picture()
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    for value in (b"chunked", b"Chunked", b" CHUNKED"):
        async with RawConnection(wire) as connection:
            connection.send(UPLOAD_HEAD + b"Transfer-Encoding:" + value + b"\r\n\r\n" + body)
            assert (await connection.response())[0] == 200
