"""Answers plain requests before the application is imported, in a process that ends when workers
are there.

FastAPI, and what is made with it, takes a third of a start, and a plain request
(``app.http.fast_path``)
needs none of it. What is no plain request is only looked at: the connection waits, unread, and is
handed over to a worker. So is one on which nothing has come. Each answer is the last one of its
connection, so there is no other state to hand over.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Sequence
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from pathlib import Path

from starlette.datastructures import State

from app.core.clients import by_address
from app.core.lifecycle import running
from app.core.metrics import Metrics
from app.engines.loading import Prepared
from app.http.access import Hosts
from app.http.fast_path import MOST_BYTES, Lean, Plain
from app.settings import Settings

log = logging.getLogger(__name__)

_BACKLOG = 2048
_LINGER_S = 2.0  # in which a client may read its answer, before the connection is closed
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class _Answer(asyncio.Protocol):
    """What is left of a connection whose one request has been read.

    Args:
        stall_s: It is cut when what was written has not left for so long.
    """

    def __init__(self, stall_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._stall_s = stall_s
        self._cut: asyncio.TimerHandle | None = None
        self._sent = False
        self.over = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def eof_received(self) -> bool:
        """Who sends no more may still read."""
        return not self._sent

    def pause_writing(self) -> None:
        self._cut = self._loop.call_later(self._stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        if self._cut:
            self._cut.cancel()

    def connection_lost(self, _: Exception | None) -> None:
        self.resume_writing()
        self.over.set_result(None)

    def send(self, status: int, lines: bytes, body: bytes) -> None:
        """The answer; closing at once, while more comes in, would take it back."""
        start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ndate: {formatdate(usegmt=True)}"
        head = b"%b\r\n%bconnection: close\r\n\r\n" % (start.encode(), lines)
        self._sent = True
        self._loop.call_later(_LINGER_S, self.transport.close)
        self.transport.write(head + body)
        try:
            self.transport.write_eof()
        except OSError:  # the client has left
            self.transport.abort()


class _Connections:
    """Those that have come, until they are answered or handed over.

    Args:
        lean: Reads and answers.
        listeners: Bound, to listen on.
        most: How many may wait here. From then on they wait in the kernel, until they are a
            worker's.
        stall_s: As of ``_Answer``.

    Raises:
        OSError: another process listens there.
    """

    def __init__(
        self, lean: Lean, listeners: Sequence[socket.socket], most: int, stall_s: float
    ) -> None:
        self._lean = lean
        self._protocol = partial(_Answer, stall_s)
        self._listeners = listeners
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._unread: dict[socket.socket, str] = {}  # and where they come from
        self._answered: set[asyncio.Task[None]] = set()
        for listener in listeners:
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        for listener in listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, address = listener.accept()
        except OSError as error:  # it is gone, or there is no room
            if error.errno in _FULL:
                self._stop_listening()
            return
        connection.setblocking(False)
        self._unread[connection] = address[0]
        self._loop.add_reader(connection, self._look, connection)
        if len(self._unread) >= self._most:
            self._stop_listening()

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)

    def _look(self, connection: socket.socket) -> None:
        """Read a plain request, and nothing else."""
        self._loop.remove_reader(connection)
        try:
            data = connection.recv(MOST_BYTES + 1, socket.MSG_PEEK)
            plain = self._lean.parse(data)
            if plain:
                connection.recv(len(data))
        except OSError:
            data, plain = b"", None
        if plain:
            client = by_address(self._unread.pop(connection))
            task = self._loop.create_task(self._answer(connection, client, plain))
            self._answered.add(task)
            task.add_done_callback(self._answered.discard)
        elif not data:  # it has gone
            del self._unread[connection]
            connection.close()

    async def _answer(self, connection: socket.socket, client: str | None, plain: Plain) -> None:
        try:
            transport, answer = await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # it was gone already
            connection.close()
            return
        try:
            self._lean.ask(plain, client, transport.is_closing, answer.send)
        except Exception:
            log.exception("a request failed")
            transport.abort()
        await answer.over

    async def hand_over(self, end: socket.socket) -> None:
        """Listen no more, give away what is not read, and return when the rest is answered."""
        self._stop_listening()
        for listener in self._listeners:
            listener.close()
        for connection in self._unread:
            self._loop.remove_reader(connection)
        await asyncio.to_thread(self._give, end)  # who takes them may take his time
        while self._answered:
            await asyncio.wait(self._answered)

    def _give(self, end: socket.socket) -> None:
        end.setblocking(True)
        for connection in self._unread:
            with contextlib.suppress(OSError):  # nobody is there any more to take it
                socket.send_fds(end, [b"c"], [connection.fileno()])
            connection.close()
        end.close()


async def _serve(
    settings: Settings,
    metrics: Metrics,
    prepared: Prepared,
    listeners: Sequence[socket.socket],
    end: socket.socket,
) -> None:
    state = State()
    # Not on the loop: should a call hang, what is not read must still be handed over.
    async with running(prepared, settings, metrics, on_loop=False) as state.service:
        hosts = Hosts((settings.allowed_hosts or "").split(","))
        lean = Lean(state, metrics, settings.max_n, hosts.allows, open_to_all=True)
        try:
            most, stall_s = settings.max_connections, settings.stall_seconds
            connections = _Connections(lean, listeners, most, stall_s)
        except OSError:  # the supervisor says so, when it comes to listen
            return
        relieved = asyncio.Event()
        asyncio.get_running_loop().add_reader(end, relieved.set)
        await relieved.wait()
        asyncio.get_running_loop().remove_reader(end)
        await connections.hand_over(end)


def answers_s(settings: Settings) -> float:
    """In this time what was read is answered, and the answer has left."""
    return settings.max_timeout_ms / 1e3 + settings.stall_seconds + _LINGER_S


def serve(
    settings: Settings,
    shared: Path,
    prepared: Prepared,
    listeners: Sequence[socket.socket],
    end: socket.socket,
) -> int:
    """What a ``forks.Forerunner`` does.

    Args:
        settings: Of the service, which asks for no key.
        shared: As of ``Metrics``.
        prepared: The models, made before the fork.
        listeners: Bound, to listen on.
        end: As ``forks.Forerunner`` gives it.

    Returns:
        The exit status.
    """
    asyncio.run(_serve(settings, Metrics(shared), prepared, listeners, end))
    return 0
