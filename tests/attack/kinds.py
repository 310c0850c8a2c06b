"""What attackers and broken clients do to a service, each until it is told to stop."""

import asyncio
import contextlib
import math
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from io import BytesIO
from urllib.parse import urlsplit

import numpy as np
from PIL import Image as PillowImage

from tests.hostile import CASES, form, picture, png

Attack = Callable[["Target"], Awaitable[None]]  # once; it is repeated
_PATIENCE_S = 20.0
_HEAD = b"POST /encode HTTP/1.1\r\nHost: test\r\nContent-Type: image/png\r\n"
FULL = b"POST /generate?n=64 HTTP/1.1\r\nHost: test\r\n\r\n"
PIPELINED = b"GET /static/index.html HTTP/1.1\r\nHost: test\r\n\r\n" * 20
RUBBISH = [
    b"rubbish\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
]


class Target:
    """The service, and how often it was attacked."""

    def __init__(self, url: str) -> None:
        self.host, self.port = urlsplit(url).hostname or "", urlsplit(url).port or 80
        self.attacks = 0

    async def open(self, buffer: int | None = None) -> "Connection":
        """A connection; ``buffer``: bytes that it takes unread."""
        made = socket.socket()
        if buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        made.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(made, (self.host, self.port))
        except BaseException:
            made.close()
            raise
        return Connection(made)


class Connection:
    """A socket, without the comfort that would hide what is done to it."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self, seconds: float = _PATIENCE_S) -> bytes:
        """Some of the response; empty at its end, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().sock_recv(self.socket, 65536)
        return b""

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


async def table(target: Target) -> None:
    """A row of ``tests.hostile``."""
    case = random.choice(CASES)
    lines = [f"{case.method} {case.target} HTTP/1.1", "Host: test", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in case.headers]
    head = "\r\n".join([*lines, f"Content-Length: {len(case.body)}", "", ""])
    async with await target.open() as connection:
        await connection.send(head.encode() + case.body)
        await connection.read()


async def rubbish(target: Target) -> None:
    """What is no request."""
    async with await target.open() as connection:
        await connection.send(random.choice(RUBBISH))
        await connection.read()


async def resetting(target: Target) -> None:
    """Twenty requests at once, and a reset before they are answered."""
    connection = await target.open()
    await connection.send(random.choice([PIPELINED, FULL * 5]))
    await asyncio.sleep(random.random() / 50)
    connection.reset()


async def cancelling(target: Target) -> None:
    """64 images, and nobody who waits for them."""
    async with await target.open() as connection:
        await connection.send(FULL)
        await asyncio.sleep(random.random() / 10)


async def half_closing(target: Target) -> None:
    """A request, and the end of the client's side."""
    request = random.choice([FULL, b"GET /generate?label=7 HTTP/1.1\r\nHost: test\r\n\r\n"])
    async with await target.open() as connection:
        await connection.send(request)
        connection.socket.shutdown(socket.SHUT_WR)
        while await connection.read():
            pass


async def promising(target: Target) -> None:
    """260 connections with a body that is promised and never sent, for a while."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(260):
            connection = await stack.enter_async_context(await target.open())
            with contextlib.suppress(OSError):
                await connection.send(_HEAD + b"Content-Length: 1000\r\n\r\n")
        await asyncio.sleep(2)


async def trickling(target: Target) -> None:
    """A head and a body, a byte now and then."""
    async with await target.open() as connection:
        for byte in _HEAD + b"Content-Length: 1000\r\n\r\n":
            await connection.send(bytes([byte]))
            await asyncio.sleep(0.05)


async def hoarding(target: Target) -> None:
    """A body of 8 MiB but for its last byte."""
    async with await target.open() as connection:
        await connection.send(_HEAD + b"Content-Length: %d\r\n\r\n" % 2**23)
        await connection.send(bytes(2**23 - 1))
        await connection.read(5)


async def not_reading(target: Target) -> None:
    """A large data set that nobody reads, for a while."""
    async with await target.open(buffer=4096) as connection:
        await connection.send(b"POST /dataset?n=100000 HTTP/1.1\r\nHost: test\r\n\r\n")
        await asyncio.sleep(3)


async def flood(target: Target) -> None:
    """As many images as fit, as fast as they come."""
    async with await target.open() as connection:
        for _ in range(20):
            await connection.send(FULL)
            if not await connection.read():
                return


def _scans(sides: int, repeats: int) -> bytes:
    """A progressive JPEG whose last scan is there many times over."""
    out = BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (sides // 50, sides // 50), np.uint8)
    image = PillowImage.fromarray(noise).resize((sides, sides))
    image.save(out, "JPEG", progressive=True, quality=5)
    data = out.getvalue()
    last, end = data.rfind(b"\xff\xda"), data.rfind(b"\xff\xd9")
    return data[:last] + data[last:end] * repeats + data[end:]


def _bombs() -> list[tuple[bytes, bytes]]:
    """Small files that are large pictures: their types and bytes."""
    wide = BytesIO()
    PillowImage.new("1", (4_000_000, 1)).save(wide, "PNG")
    square = BytesIO()
    PillowImage.new("L", (4000, 4000)).save(square, "WEBP", lossless=True)
    return [
        (b"image/png", wide.getvalue()),
        (b"image/png", png(width=30_000, height=30_000)),
        (b"image/webp", square.getvalue()),
        (b"image/jpeg", _scans(1500, 400)),
    ]


_BOMBS = _bombs()


async def bombs(target: Target) -> None:
    """A small file that is a large picture, and a client that leaves or waits."""
    kind, data = random.choice(_BOMBS)
    head = b"POST /encode HTTP/1.1\r\nHost: test\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    async with await target.open() as connection:
        await connection.send(head % (kind, len(data)) + data)
        await connection.read(random.choice([0.1, 10.0]))


async def proper(target: Target) -> None:
    """Uploads and forms as they should be."""
    body = form(('name="file"; filename="a"', picture()))
    head = (
        b"POST /encode HTTP/1.1\r\nHost: test\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    )
    async with await target.open() as connection:
        await connection.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await connection.read()


KINDS: dict[str, tuple[Attack, int]] = {  # and how many at a time
    "the table of bad input": (table, 4),
    "what is no request": (rubbish, 8),
    "pipelined, then reset": (resetting, 8),
    "cancelled": (cancelling, 8),
    "half-closed": (half_closing, 8),
    "bodies promised": (promising, 1),
    "a byte now and then": (trickling, 100),
    "bodies held back": (hoarding, 12),
    "data sets unread": (not_reading, 4),
    "pictures as bombs": (bombs, 4),
    "flood": (flood, 60),
}
SOAK: tuple[Attack, ...] = (
    table,
    rubbish,
    resetting,
    cancelling,
    half_closing,
    trickling,
    not_reading,
    bombs,
    proper,
)


async def attack(
    target: Target, kinds: list[Attack], at_a_time: int, seconds: float, per_s: float = math.inf
) -> None:
    """Attack for so long, and at most so often a second."""
    clock = asyncio.get_running_loop().time
    ends = clock() + seconds

    async def repeat() -> None:
        while (begun := clock()) < ends:
            with contextlib.suppress(OSError, TimeoutError):
                await random.choice(kinds)(target)
            target.attacks += 1
            await asyncio.sleep(max(0.001, min(begun + at_a_time / per_s, ends) - clock()))

    tasks = [asyncio.create_task(repeat()) for _ in range(at_a_time)]
    _, late = await asyncio.wait(tasks, timeout=seconds + 30)
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
