"""How long a client may take: over its headers, its body, a next request, and an error response."""

import asyncio
import socket
import time
from typing import Any

import pytest

from tests.app.http.raw_connection import (
    FAST,
    LIVEZ,
    UPLOAD_HEAD,
    RawConnection,
    Received,
    assert_serves,
)

LARGE = b"GET /generate?n=64&format=npy HTTP/1.1\r\nHost: test\r\n\r\n"  # 50 KB


async def test_headers_have_to_come_in_time_however_they_trickle(make_wire: Any) -> None:
    wire = await make_wire(header_seconds=0.4)
    for first in (b"", FAST, LIVEZ):
        async with RawConnection(wire) as connection:
            if first:
                connection.send(first)
                assert (await connection.response())[0] == 200
            head = b"GET /livez HTTP/1.1\r\nX-A: " + b"a" * 999
            trickle = asyncio.create_task(connection.trickle(head))
            assert "0.4 s" in await connection.refused(408, "request-timeout")
            trickle.cancel()
    await assert_serves(wire)


async def test_a_new_connection_that_sends_nothing_is_closed_without_a_word(make_wire: Any) -> None:
    wire = await make_wire(header_seconds=0.1)
    async with RawConnection(wire) as connection:
        assert await connection.rest() == b""


@pytest.mark.slow
async def test_empty_lines_do_not_keep_a_connection_open(make_wire: Any) -> None:
    wire = await make_wire(header_seconds=0.2)
    async with RawConnection(wire) as connection:
        connection.send(LIVEZ)
        assert (await connection.response())[0] == 200
        trickle = asyncio.create_task(connection.trickle(b"\r\n" * 999))
        await connection.refused(408, "request-timeout")
        trickle.cancel()


@pytest.mark.parametrize(
    "head",
    [
        UPLOAD_HEAD + b"Content-Length: 1000\r\n\r\n",
        UPLOAD_HEAD + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n",
        UPLOAD_HEAD + b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
    ],
    ids=["length", "chunked", "expect"],
)
async def test_a_body_has_to_come_in_time_however_it_trickles(make_wire: Any, head: bytes) -> None:
    wire = await make_wire(body_seconds=0.4)
    async with RawConnection(wire) as connection:
        connection.send(head)
        if b"100-continue" in head:
            assert (await connection.response())[0] == 100
        trickle = asyncio.create_task(connection.trickle(b"a" * 999))
        assert "0.4 s" in await connection.refused(408, "request-timeout")
        trickle.cancel()
    await assert_serves(wire)


async def test_the_limits_are_of_each_request_and_not_of_the_connection(make_wire: Any) -> None:
    wire = await make_wire(body_seconds=0.4)
    async with RawConnection(wire) as connection:
        for _ in range(4):
            connection.send(UPLOAD_HEAD + b"Content-Length: 4\r\n\r\nab")
            await asyncio.sleep(0.2)
            connection.send(b"cd")
            assert (await connection.response())[0] == 422


async def test_a_slow_model_is_not_taken_for_a_slow_client(
    make_wire: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = await make_wire(header_seconds=0.1, body_seconds=0.1)
    backend = app_of(wire).state.service.models["tiny-cgan-v1"].backend
    original = backend.run

    def slow(*arguments: Any) -> Any:
        time.sleep(0.5)
        return original(*arguments)

    monkeypatch.setattr(backend, "run", slow)
    async with RawConnection(wire) as connection:
        connection.send(FAST + FAST.replace(b"Host", b"X-A: b\r\nHost") + LIVEZ)
        assert [(await connection.response())[0] for _ in range(3)] == [200, 200, 200]


@pytest.mark.parametrize("request_", [FAST, LIVEZ], ids=["fast", "full"])
async def test_a_connection_that_is_not_used_again_is_closed(
    make_wire: Any, request_: bytes
) -> None:
    wire = await make_wire(keep_alive_seconds=0.4)
    async with RawConnection(wire) as first, RawConnection(wire) as second:
        for used in (first, first, second):
            used.send(request_)
            assert (await used.response())[0] == 200
        assert await first.rest() == b""
        assert await second.rest() == b""
    await assert_serves(wire)


async def test_a_refused_client_that_goes_on_sending_can_read_why_before_the_connection_is_cut(
    make_wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = Received(monkeypatch)
    wire = await make_wire(linger_seconds=0.3)
    async with RawConnection(wire) as connection:
        connection.send(b"hello\r\n\r\n")
        await received.next(9)  # it is refused now, and read no more
        for _ in range(10):
            connection.send(bytes(1000))
        await connection.refused(400, "malformed-request")
        with pytest.raises(ConnectionError):
            await connection.trickle(bytes(1000))


async def test_who_takes_nothing_of_the_last_response_is_cut_off(
    make_wire: Any, app_of: Any
) -> None:
    wire = await make_wire(keep_alive_seconds=0.5, stall_seconds=0.3)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, (wire.base_url.host, wire.base_url.port))
        async with asyncio.timeout(30):
            unread = 0
            while not unread:  # until the kernel takes no more: less than uvicorn's own limit
                await loop.sock_sendall(client, LARGE)
                await asyncio.sleep(0.05)
                [protocol] = app_of(wire).state.connections()
                unread = protocol.transport.get_write_buffer_size()
            assert unread < 65536
            while app_of(wire).state.connections():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    await assert_serves(wire)
