"""Processes forked from the one that supervises them. Unix only."""

import contextlib
import ctypes
import logging
import os
import signal
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
