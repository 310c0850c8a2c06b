"""The channel between the supervisor and a worker: a pair of Unix sockets.

The supervisor sends file descriptors of connections. The worker sends messages of one byte each;
they may arrive several at a time.
"""

import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from typing import Any

log = logging.getLogger(__name__)

# The supervisor sends it to a worker that another replaces: it serves the connections that it has.
EXCHANGE: Any = getattr(signal, "SIGUSR1", None)  # Windows has none

READY = b"r"  # the worker takes connections, and runs its models on the CPU
READY_ON_GPU = b"g"  # the same, on a GPU
HEARTBEAT = b"b"  # its event loop turns
FAILED = b"f"  # its event loop turns, but it cannot go on and has to be replaced
CLOSED = b"c"  # a connection that was handed over has ended
CLOSING = b"d"  # it takes no more connections


def open_channel() -> tuple["SupervisorChannel", "WorkerChannel"]:
    """Both ends; after the fork each process closes the other's.

    Raises:
        OSError: this process may open no more files.
    """
    ours, theirs = socket.socketpair()
    return SupervisorChannel(ours), WorkerChannel(theirs)


class SupervisorChannel:
    """The supervisor's end."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    def fileno(self) -> int:
        """-1 = closed."""
        return self._end.fileno()

    def close(self) -> None:
        self._end.close()

    def hand_over(self, connection: socket.socket) -> bool:
        """Send a connection; False = the channel is full, or the worker has just ended."""
        try:
            socket.send_fds(self._end, [b"c"], [connection.fileno()])
        except OSError:
            return False
        return True

    def end(self) -> None:
        """Tell the worker that no more connections come."""
        with contextlib.suppress(OSError):  # it has ended
            self._end.shutdown(socket.SHUT_WR)

    def messages(self) -> bytes:
        """What the worker has sent since the last call, one byte a message.

        Raises:
            EOFError: the worker has ended.
        """
        try:
            received = self._end.recv(65536)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise EOFError from error
        if not received:
            raise EOFError
        return received


class WorkerChannel:
    """The worker's end."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._unsent = bytearray()

    def fileno(self) -> int:
        return self._end.fileno()

    def close(self) -> None:
        self._end.close()

    def connections(self) -> Iterator[socket.socket]:
        """The connections handed over since the last call.

        Raises:
            EOFError: no more come: the supervisor has ended, or said so.
        """
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._end, 1, 1)
            except BlockingIOError:
                return
            except OSError as error:
                raise EOFError from error
            if not data:
                raise EOFError
            if not fds:  # this process may open no more; the kernel has closed it
                log.error("no file descriptor is left for a connection; see ulimit -n")
                self.send_closed()
            for fd in fds:
                yield socket.socket(fileno=fd)

    def send_ready(self, on_gpu: bool) -> None:
        """Requests can be served."""
        self._send(READY_ON_GPU if on_gpu else READY)

    def send_heartbeat(self, alive: bool) -> None:
        """The event loop turns; ``alive`` is false if the process has to be replaced."""
        self._send(HEARTBEAT if alive else FAILED)

    def send_closed(self) -> None:
        """A connection that was handed over has ended."""
        self._send(CLOSED)

    def send_closing(self) -> None:
        """No more connections are taken."""
        self._send(CLOSING)

    def _send(self, message: bytes) -> None:
        """Send a message, after those for which there was no room. The supervisor counts them, so
        none may be lost."""
        self._unsent += message
        with contextlib.suppress(OSError):  # no room; or no supervisor, which the reader notices
            del self._unsent[: self._end.send(self._unsent)]
