"""A store loaded anew beside the old: a process of its own, from which workers are forked.

The supervisor answers to connections all the time, so it does not load anything itself; and a
checkpoint that ends the process which tries it does not end the service. Workers become children of
the supervisor nevertheless (its orphaned descendants are given to it), which waits for them as for
those that it forks itself. Linux only.
"""

import contextlib
import ctypes
import errno
import gc
import json
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import TypeAlias

from app.errors import StartupError
from app.fork import STOP_SIGNALS, end_with, fork
from app.process.workers.channel import WorkerChannel

log = logging.getLogger(__name__)

Work: TypeAlias = Callable[[WorkerChannel, int], int]  # in its place; returns the exit status

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_FORK_S = 5.0  # that a worker may take to be forked
_MESSAGE_BYTES = 4096


def adopt_orphans() -> None:
    """Have this process become the parent of all its descendants whose parents have ended."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


class Generation:
    """The supervisor's view of one such process.

    Args:
        prepare: Loads what is served and returns what a worker does; called in the new process.
        forget: Closes and undoes there what is the supervisor's.

    Attributes:
        pid: Of the process.

    Raises:
        OSError: there may be no more processes or file descriptors.
    """

    def __init__(self, prepare: Callable[[], Work], forget: Callable[[], None]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        supervisor = os.getpid()

        def run() -> int:
            forget()
            ours.close()
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            end_with(supervisor)
            return _fork_on_demand(theirs, prepare)

        try:
            self.pid = fork(run, "loading the store anew")
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.settimeout(_FORK_S)
        self._socket = ours

    def fileno(self) -> int:
        """-1 = closed."""
        return self._socket.fileno()

    def outcome(self) -> str | None:
        """Why it cannot be served, or None; to be called when there is a message.

        Raises:
            EOFError: the process has ended.
        """
        try:
            received = self._socket.recv(_MESSAGE_BYTES)
        except OSError as error:
            raise EOFError from error
        if not received:
            raise EOFError
        refused: str | None = json.loads(received)
        return refused

    def fork_worker(self, channel: WorkerChannel, place: int) -> int:
        """Fork a worker; its process id.

        Raises:
            OSError: there may be no more processes, or this one has ended.
        """
        socket.send_fds(self._socket, [str(place).encode()], [channel.fileno()])
        pid = int(self._socket.recv(_MESSAGE_BYTES) or 0)
        if not pid:
            raise OSError(errno.EAGAIN, "a worker could not be forked from the reloaded store")
        return pid

    def forget(self) -> None:
        """Close, in a child, what is the supervisor's."""
        self._socket.close()

    def close(self) -> None:
        """End it; its workers go on."""
        self._socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def _fork_on_demand(orders: socket.socket, prepare: Callable[[], Work]) -> int:
    """Load; say how that went; then fork a worker for each order. The process's exit status."""
    try:
        work = prepare()
    except StartupError as error:
        orders.send(json.dumps(str(error)[: _MESSAGE_BYTES // 16]).encode())
        return 1
    except Exception as error:
        log.exception("loading the store anew failed")
        orders.send(json.dumps(f"{type(error).__name__}; see the log").encode())
        return 1
    gc.freeze()  # what is loaded now stays shared with the workers
    orders.send(json.dumps(None).encode())
    while True:
        place, fds, _, _ = socket.recv_fds(orders, _MESSAGE_BYTES, 1)
        if not place:
            return 0
        pid = 0
        if fds:
            channel = WorkerChannel(socket.socket(fileno=fds[0]))
            try:
                pid = _fork_orphan(lambda: work(channel, int(place)), orders)  # noqa: B023
            except OSError as error:
                log.error("cannot fork a worker: %s", error.strerror)
            channel.close()
        orders.send(str(pid).encode())


def _fork_orphan(run: Callable[[], int], orders: socket.socket) -> int:
    """Fork a process whose parent has ended: it is given to the supervisor. Its process id.

    Raises:
        OSError: there may be no more processes.
    """
    reading, writing = os.pipe()

    def worker() -> int:
        os.close(writing)
        orders.close()
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        return run()

    def parent() -> int:
        os.close(reading)
        os.write(writing, str(fork(worker, "a worker")).encode())
        return 0

    try:
        between = fork(parent, "forking a worker")
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(between, 0)
    return int(told or 0)
