"""Answers plain requests before the application is imported, in a process that ends when workers
are there.

FastAPI, and what is made with it, takes a third of a start, and a plain request (``app.lean``)
needs none of it. What is no plain request is only looked at: the connection waits, unread, and is
handed over to a worker. So is one on which nothing has come. Each answer is the last one of its
connection, so there is no other state to hand over.
"""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path

from starlette.datastructures import State

from app.clients import by_address
from app.guard import Hosts
from app.lean import MOST_BYTES, Lean, Plain
from app.metrics import Metrics
from app.prepare import Prepared
from app.running import running
from app.settings import Settings

_BACKLOG = 2048
_MOST = 512  # connections that wait here; others wait in the kernel


class _Answer(asyncio.Protocol):
    """What is left of a connection whose one request has been read."""

    def __init__(self) -> None:
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        self.over.set_result(None)

    def send(self, status: int, lines: bytes, body: bytes) -> None:
        start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ndate: {formatdate(usegmt=True)}"
        head = b"%b\r\n%bconnection: close\r\n\r\n" % (start.encode(), lines)
        self.transport.write(head + body)
        self.transport.close()


class _Connections:
    """Those that have come, until they are answered or handed over."""

    def __init__(self, lean: Lean, listeners: Sequence[socket.socket]) -> None:
        self._lean = lean
        self._listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._unread: dict[socket.socket, str] = {}  # and where they come from
        self._answered: set[asyncio.Task[None]] = set()
        for listener in listeners:
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, address = listener.accept()
        except OSError:  # it is gone, or no file descriptor is left
            return
        connection.setblocking(False)
        self._unread[connection] = address[0]
        self._loop.add_reader(connection, self._look, connection)
        if len(self._unread) >= _MOST:
            self._stop_listening()

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)

    def _look(self, connection: socket.socket) -> None:
        """Read a plain request, and nothing else."""
        self._loop.remove_reader(connection)
        try:
            data = connection.recv(MOST_BYTES + 1, socket.MSG_PEEK)
            if not (plain := self._lean.parse(data)):
                return
            connection.recv(len(data))
        except OSError:  # it is gone, and who gets it sees that
            return
        client = by_address(self._unread.pop(connection))
        task = self._loop.create_task(self._answer(connection, client, plain))
        self._answered.add(task)
        task.add_done_callback(self._answered.discard)

    async def _answer(self, connection: socket.socket, client: str | None, plain: Plain) -> None:
        try:
            transport, answer = await self._loop.connect_accepted_socket(_Answer, connection)
        except OSError:  # it was gone already
            connection.close()
            return
        self._lean.ask(plain, client, transport.is_closing, answer.send)
        await answer.over

    async def hand_over(self, end: socket.socket) -> None:
        """Give away what is not read, and see to it that the rest is answered."""
        self._stop_listening()
        end.setblocking(True)
        with contextlib.suppress(OSError):  # nobody is there to take them
            for connection in self._unread:
                self._loop.remove_reader(connection)
                socket.send_fds(end, [b"c"], [connection.fileno()])
                connection.close()
        end.close()
        while self._answered:
            await asyncio.wait(self._answered)


async def _serve(
    settings: Settings,
    metrics: Metrics,
    prepared: Prepared,
    listeners: Sequence[socket.socket],
    end: socket.socket,
) -> None:
    state = State()
    async with running(prepared, settings, metrics) as state.service:
        hosts = Hosts((settings.allowed_hosts or "").split(","))
        lean = Lean(state, metrics, settings.max_n, hosts.allows, open_to_all=True)
        connections = _Connections(lean, listeners)
        relieved = asyncio.Event()
        asyncio.get_running_loop().add_reader(end, relieved.set)
        await relieved.wait()
        asyncio.get_running_loop().remove_reader(end)
        await connections.hand_over(end)


def serve(
    settings: Settings,
    shared: Path,
    prepared: Prepared,
    listeners: Sequence[socket.socket],
    end: socket.socket,
) -> int:
    """What a ``workers.Forerunner`` does.

    Args:
        settings: Of the service, which asks for no key.
        shared: As of ``Metrics``.
        prepared: The models, made before the fork.
        listeners: Bound, to listen on.
        end: As ``workers.Forerunner`` gives it.

    Returns:
        The exit status.
    """
    asyncio.run(_serve(settings, Metrics(shared), prepared, listeners, end))
    return 0
