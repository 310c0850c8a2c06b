"""Bytes on a socket to the service under test, and when its protocol has received them."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from app.http.connection.protocol import ServiceProtocol

FAST = b"GET /generate?label=7&seed=42 HTTP/1.1\r\nHost: test\r\n\r\n"
UPLOAD_HEAD = b"POST /encode HTTP/1.1\r\nHost: test\r\nContent-Type: image/png\r\n"
# On the full route.
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: test\r\nProxy-Connection: keep-alive\r\n\r\n"

Response = tuple[int, dict[str, str], bytes]  # status, headers, body


def headers_of(lines: list[str]) -> dict[str, str]:
    """Header lines by name, all in lower case; repeated ones are joined with commas."""
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.lower().partition(": ")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


class RawConnection:
    """One connection, for what an HTTP client would not send."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._url = client.base_url

    async def __aenter__(self) -> "RawConnection":
        self.reader, self.writer = await asyncio.open_connection(self._url.host, self._url.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def trickle(self, data: bytes, pause_s: float = 0.02) -> None:
        """Send one byte after the other.

        Raises:
            ConnectionError: the connection was cut.
        """
        for byte in data:
            self.send(bytes([byte]))
            await self.writer.drain()
            await asyncio.sleep(pause_s)

    async def response(self) -> Response:
        """The next response; without Content-Length it has no body."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)
        line, *lines = head.decode().split("\r\n")[:-2]
        headers = headers_of(lines)
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(line.split()[1]), headers, body

    async def final_response(self) -> Response:
        """The next response that is no interim one."""
        while (found := await self.response())[0] == 100:
            pass
        return found

    async def rest(self) -> bytes:
        """Everything until the connection's end, which comes."""
        return await asyncio.wait_for(self.reader.read(), 30)

    async def refused(self, status: int, slug: str) -> str:
        """Read a problem and then the connection's end; returns the problem's detail."""
        got, headers, body = await self.response()
        assert got == status, body
        assert headers["content-type"] == "application/problem+json"
        problem = json.loads(body)
        assert problem["type"] == f"/problems/{slug}"
        assert problem["request_id"] == headers["x-request-id"]
        assert headers["connection"] == "close"
        assert await self.rest() == b""
        return str(problem["detail"])


class Received:
    """Counts the bytes that protocols have received, on all connections."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._bytes = 0
        self._more = asyncio.Event()
        original = ServiceProtocol.data_received

        def data_received(protocol: ServiceProtocol, data: bytes) -> None:
            original(protocol, data)
            self._bytes += len(data)
            self._more.set()

        monkeypatch.setattr(ServiceProtocol, "data_received", data_received)

    async def next(self, count: int) -> None:
        """Wait for ``count`` bytes more than the last call has waited for."""
        async with asyncio.timeout(30):
            while self._bytes < count:
                self._more.clear()
                await self._more.wait()
        self._bytes -= count


async def assert_serves(client: httpx.AsyncClient) -> None:
    """The service still answers."""
    assert (await client.get("/generate?label=7&seed=42")).status_code == 200


def pieces_of(data: bytes, size: int) -> Iterator[bytes]:
    """``data`` in pieces of ``size`` bytes."""
    return (data[start : start + size] for start in range(0, len(data), size))
