"""Processes forked from the one that supervises them, and the one that serves before all others.

Knows neither HTTP nor asyncio nor what they do. Unix only.
"""

import contextlib
import ctypes
import errno
import logging
import os
import signal
import socket
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

STOPS = (signal.SIGTERM, signal.SIGINT)
NO_DESCRIPTOR = "no file descriptor is left for a connection; see ulimit -n"
_PR_SET_PDEATHSIG = 1  # of prctl(2)


def end_with(parent: int) -> None:
    """Have this process killed when its parent ends, however that comes."""
    with contextlib.suppress(OSError, AttributeError):  # Linux alone can
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def fork(run: Callable[[], int], name: str) -> int:
    """Fork a process that does this and no more, with a name for the log.

    Until it has handlers of its own, a signal to it would go to a copy of ours: those that stop are
    blocked there.

    Returns:
        Its process id.

    Raises:
        OSError: there may be no more processes, or no memory.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    parent = os.getpid()
    try:
        pid = os.fork()
    finally:
        if os.getpid() == parent:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    if pid:
        return pid
    status = 1
    try:
        status = run()
    except BaseException:
        log.exception("%s failed", name)
    finally:
        logging.shutdown()
        os._exit(status)  # nothing of the parent's is to run here


class Forerunner:
    """A process that serves what it can until the first worker is there, which needs more.

    It listens itself. When it is relieved it listens no more, hands over the connections of which
    it has read nothing yet, and ends when it has answered the others. It ends with its parent.

    Args:
        work: What it does with its end of a socket, on which the end of the stream relieves it and
            to which it gives the connections, a byte with each; returns its exit status.
        answers_s: What it has read is answered within this time, if all is well.

    Raises:
        OSError: there may be no more processes or file descriptors, or no memory.

    ``pid`` is its process id, ``alive`` false when it is known to have ended.
    """

    def __init__(self, work: Callable[[socket.socket], int], answers_s: float) -> None:
        self.alive, self._answers_s, self._kill_at = True, answers_s, float("inf")
        self._killed = False
        self._end, theirs = socket.socketpair()
        parent = os.getpid()

        def run() -> int:
            end_with(parent)
            self._end.close()
            for number in STOPS:  # it ends when it is relieved
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
            return work(theirs)

        try:
            self.pid = fork(run, "the process that serves first")
        except OSError:
            self._end.close()
            raise
        finally:
            theirs.close()
        self._end.setblocking(False)

    def fileno(self) -> int:
        return self._end.fileno()

    def accept(self) -> tuple[socket.socket, None]:
        """A connection that it hands over, as of a socket that listens.

        Raises:
            BlockingIOError: none is there yet.
            EOFError: no more will come.
            OSError: one was lost, for this process may open no more.
        """
        data, fds, _, _ = socket.recv_fds(self._end, 1, 1)
        if not data:
            raise EOFError
        if not fds:
            log.error(NO_DESCRIPTOR)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return socket.socket(fileno=fds[0]), None

    def relieve(self, within_s: float = float("inf")) -> None:
        """Others listen now; it may answer for so long what it has read."""
        within_s = min(within_s, self._answers_s)
        self._kill_at = min(self._kill_at, time.monotonic() + within_s)
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Take nothing from it: it closes what it has not read."""
        self._end.close()

    def kill(self) -> None:
        """End it now."""
        self._killed = True
        os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> bool:
        """Whether it has ended; ends it if its time has come. Not to be asked again then."""
        pid, code = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.alive = False
            if self._killed:
                log.warning("not all is answered that was asked before there were workers")
            elif status := os.waitstatus_to_exitcode(code):
                log.error("the process that served first ended with status %d", status)
        elif time.monotonic() >= self._kill_at:
            self.kill()
        return not self.alive

    def stop(self, grace_s: float) -> None:
        """Relieve it, and return when it has answered what it had read, or after that time."""
        self.relieve(grace_s)
        self.close()
        while self.alive and not self.reap():
            time.sleep(0.01)
