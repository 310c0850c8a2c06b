"""The codec processes of one worker: started, watched, ended and replaced."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable

from app.codec.codec_process import ACCEPTED, MAX_PARTS
from app.codec.fork_server import FORK, FORKED, KILL, MESSAGE_BYTES, ForkServer, message
from app.codec.messages import (
    BrokenMessageError,
    Message,
    read_async,
    receive_async,
    send_async,
)

log = logging.getLogger(__name__)

_RETRY_S = 0.1  # after a start that failed; doubled each time, up to
_MAX_RETRY_S = 10.0


class NotAcceptedError(Exception):
    """The process had ended before the job reached it."""


class CodecProcess:
    """The worker's side of a codec process."""

    def __init__(self, number: int, end: socket.socket) -> None:
        end.setblocking(False)
        self.number = number
        self.end = end

    async def do(self, job: Message) -> Message:
        """Send a job and wait for its result.

        Raises:
            NotAcceptedError: it has not begun.
            BrokenMessageError: the process ended meanwhile.
        """
        loop = asyncio.get_running_loop()
        try:
            await send_async(loop, self.end, job)
            accepted = await read_async(loop, self.end, len(ACCEPTED))
        except (OSError, BrokenMessageError) as error:
            raise NotAcceptedError from error
        if accepted != ACCEPTED:
            raise BrokenMessageError("not accepted")
        return await receive_async(loop, self.end, MAX_PARTS)


class CodecProcesses:
    """Keeps as many processes as are wanted.

    Construct, use and close it on one event loop.

    Args:
        wanted: How many.
        server: Forks them; None = one is started when the first process is needed.
        on_count: Called with the number of processes whenever it changes.
    """

    def __init__(
        self, wanted: int, server: ForkServer | None, on_count: Callable[[int], None]
    ) -> None:
        self._wanted = wanted
        self._server = server
        self._on_count = on_count
        self._idle: list[CodecProcess] = []
        self._alive: dict[int, CodecProcess] = {}
        self._asked: set[int] = set()  # numbers of those that are being forked
        self._number = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._retry_s = _RETRY_S
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def alive(self) -> int:
        """How many there are."""
        return len(self._alive)

    def start(self) -> None:
        """Start all that are missing, as far as there is a server to fork them."""
        if self._server:
            self._attach(self._server)

    async def take(self) -> CodecProcess:
        """An idle process, which is the caller's until it is given back or discarded."""
        loop = asyncio.get_running_loop()
        while not self._idle:
            self._replace()
            waiter = loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self._waiters.remove(waiter)
                if waiter.done() and not waiter.cancelled():  # it was woken: wake another
                    self._wake()
                raise
            self._waiters.remove(waiter)
        process = self._idle.pop()  # the one used last: its memory is warm
        loop.remove_reader(process.end.fileno())
        return process

    def give_back(self, process: CodecProcess) -> None:
        """It has answered."""
        if process.number not in self._alive:
            process.end.close()
            return
        self._idle.append(process)
        loop = asyncio.get_running_loop()
        loop.add_reader(process.end.fileno(), self.discard, process)  # an idle one sends nothing
        self._wake()

    def discard(self, process: CodecProcess) -> None:
        """End a process, whatever it does, and start another."""
        if self._alive.pop(process.number, None) is None:
            process.end.close()
            return
        if process in self._idle:
            self._idle.remove(process)
            asyncio.get_running_loop().remove_reader(process.end.fileno())
        process.end.close()
        self._ask(KILL, process.number)
        self._on_count(self.alive)
        self._replace()

    async def close(self) -> None:
        """End them all, and wait until the server has ended."""
        self._closed = True
        if self._retry:
            self._retry.cancel()
        loop = asyncio.get_running_loop()
        for process in self._idle:
            loop.remove_reader(process.end.fileno())
            process.end.close()
        self._idle.clear()
        self._alive.clear()  # those that work are ended by the server, which their jobs notice
        if server := self._detach():
            await loop.run_in_executor(None, server.wait)

    def _replace(self) -> None:
        """Have the missing processes forked."""
        if self._closed or self._retry:
            return
        if not self._server:
            try:
                self._attach(ForkServer.by_exec())
            except OSError as error:
                log.error("cannot start the codec's fork server: %s", error.strerror)
                self._later()
            return
        while len(self._alive) + len(self._asked) < self._wanted:
            self._number += 1
            self._asked.add(self._number)
            if not self._ask(FORK, self._number):
                return

    def _attach(self, server: ForkServer) -> None:
        self._server = server
        server.control.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(server.control.fileno(), self._hear, server)
        self._replace()

    def _detach(self) -> ForkServer | None:
        server, self._server = self._server, None
        if server:
            asyncio.get_running_loop().remove_reader(server.control.fileno())
            server.close()
        return server

    def _ask(self, operation: bytes, number: int) -> bool:
        """Send the server a message; False = it has ended, or hangs."""
        try:
            if self._server:
                self._server.control.sendall(message(operation, number))
                return True
        except OSError:
            self._server_lost()
        return False

    def _hear(self, server: ForkServer) -> None:
        """An answer of the server."""
        try:
            data, descriptors, _, _ = socket.recv_fds(server.control, MESSAGE_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if len(data) < MESSAGE_BYTES:
            self._server_lost()
            return
        number = int.from_bytes(data[1:], "big")
        self._asked.discard(number)
        if data[:1] == FORKED and descriptors:
            process = CodecProcess(number, socket.socket(fileno=descriptors[0]))
            self._alive[number] = process
            self._retry_s = _RETRY_S
            self._on_count(self.alive)
            self.give_back(process)
        else:  # no process, or no file descriptor, is left
            self._ask(KILL, number)
            log.error("no codec process can be started; tried again in %g s", self._retry_s)
            self._later()

    def _server_lost(self) -> None:
        """The server has ended, and its processes with it."""
        if not (server := self._detach()):
            return
        log.error("the codec's fork server has ended; it is replaced")
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGKILL)
        server.wait()
        self._asked.clear()
        for process in list(self._idle):
            self.discard(process)
        self._later()

    def _later(self) -> None:
        """Try again when that may help."""
        if self._closed or self._retry:
            return

        def again() -> None:
            self._retry = None
            self._replace()

        self._retry = asyncio.get_running_loop().call_later(self._retry_s, again)
        self._retry_s = min(2 * self._retry_s, _MAX_RETRY_S)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
                return
