"""Clients that end their side after a request, that leave, and transfer codings: over a socket."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.errors import NotReadyError
from tests.app.http.raw_connection import FAST, UPLOAD_HEAD, RawConnection, assert_serves
from tests.hostile import picture

SLOW = (
    b"POST /encode HTTP/1.1\r\nHost: test\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
)
SEVERAL = (
    b"GET /generate?n=3&format=webp HTTP/1.1\r\nHost: test\r\nProxy-Connection: keep-alive\r\n\r\n"
)
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
        status, _, _ = await connection.final_response()
        assert status in (200, 404)
        assert await connection.rest() == b""


async def test_pipelined_requests_before_the_end_are_all_answered(wire: httpx.AsyncClient) -> None:
    async with RawConnection(wire) as connection:
        connection.send(SEVERAL + FAST + SEVERAL)
        connection.writer.write_eof()
        for _ in range(3):
            assert (await connection.final_response())[0] == 200
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


@pytest.fixture
def held(
    wire: httpx.AsyncClient, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> "asyncio.Queue[tuple[Any, Any]]":
    """The requests of the fast path, which are not answered, and how they would be."""
    requests: asyncio.Queue[tuple[Any, Any]] = asyncio.Queue()
    service = app_of(wire).state.service
    monkeypatch.setattr(service, "start_generate", lambda *call: requests.put_nowait(call))
    return requests


async def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether it does within half a minute."""
    for _ in range(3000):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return False


async def test_a_client_that_has_left_is_told_from_one_that_ended_its_side(
    wire: httpx.AsyncClient, held: "asyncio.Queue[tuple[Any, Any]]"
) -> None:
    async with RawConnection(wire) as ended:
        ended.send(FAST)
        ended.writer.write_eof()
        waits, on_done = await asyncio.wait_for(held.get(), 30)
        async with RawConnection(wire) as left:
            left.send(FAST)
            gone, _ = await asyncio.wait_for(held.get(), 30)
        assert await comes_true(gone.context.disconnected)
        assert not waits.context.disconnected()
        on_done(NotReadyError("a response at last"))
        status, _, body = await ended.final_response()
        assert (status, json.loads(body)["detail"]) == (503, "a response at last")
        assert await ended.rest() == b""


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
