"""Messages between a worker and its codec processes: a JSON header and raw bytes, over a Unix
socket. Nothing is unpickled: a decoder that a picture has taken over can send bytes, not code."""

import json
import socket
import struct
from asyncio import AbstractEventLoop
from collections.abc import Sequence
from typing import Any, NamedTuple

_LENGTH = struct.Struct(">I")
_MAX_HEADER = 2**20  # bytes
_SIZES = "sizes"


class Message(NamedTuple):
    """What is sent."""

    header: dict[str, Any]  # JSON
    parts: Sequence[bytes | memoryview] = ()

    def head(self) -> bytes:
        """All that goes before the parts."""
        sizes = [len(part) for part in self.parts]
        text = json.dumps({**self.header, _SIZES: sizes}).encode()
        return _LENGTH.pack(len(text)) + text


class BrokenMessageError(Exception):
    """The other end has ended, or does not keep to the form."""


def _header_size(length: bytes) -> int:
    (size,) = _LENGTH.unpack(length)
    if size > _MAX_HEADER:
        raise BrokenMessageError(f"a header of {size} bytes")
    return int(size)


def _parsed(text: bytes, most: int) -> tuple[dict[str, Any], list[int]]:
    """The header, and the sizes of the parts, of ``most`` bytes together."""
    try:
        header = json.loads(text)
        sizes = [int(size) for size in header.pop(_SIZES)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BrokenMessageError("not a header") from error
    if min(sizes, default=0) < 0 or sum(sizes) > most:
        raise BrokenMessageError(f"parts of {sum(sizes)} bytes")
    return header, sizes


def send(end: socket.socket, message: Message) -> None:
    """Send from a process that does nothing else meanwhile."""
    end.sendall(message.head())
    for part in message.parts:
        end.sendall(part)


def receive(end: socket.socket, most: int) -> Message:
    """The next message.

    Args:
        end: Blocking.
        most: Bytes of its parts together.

    Raises:
        BrokenMessageError
    """
    header, sizes = _parsed(_read(end, _header_size(_read(end, _LENGTH.size))), most)
    return Message(header, [_read(end, size) for size in sizes])


def _read(end: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = end.recv_into(view[done:])
        if not count:
            raise BrokenMessageError("the other end has ended")
        done += count
    return bytes(data)


async def send_async(loop: AbstractEventLoop, end: socket.socket, message: Message) -> None:
    """Send without blocking the event loop; ``end`` is non-blocking.

    Raises:
        OSError: the other end has ended.
    """
    await loop.sock_sendall(end, message.head())
    for part in message.parts:
        await loop.sock_sendall(end, part)


async def receive_async(loop: AbstractEventLoop, end: socket.socket, most: int) -> Message:
    """The next message; otherwise as ``receive``, for an ``end`` that is non-blocking."""
    size = _header_size(await read_async(loop, end, _LENGTH.size))
    header, sizes = _parsed(await read_async(loop, end, size), most)
    return Message(header, [await read_async(loop, end, size) for size in sizes])


async def read_async(loop: AbstractEventLoop, end: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        try:
            count = await loop.sock_recv_into(end, view[done:])
        except OSError as error:
            raise BrokenMessageError(str(error)) from error
        if not count:
            raise BrokenMessageError("the other end has ended")
        done += count
    return bytes(data)
