"""Child processes that run one function. Unix only."""

import contextlib
import ctypes
import logging
import os
import signal
from collections.abc import Callable

log = logging.getLogger(__name__)

# ``nohup`` has a process start with SIGHUP ignored, and means it; Windows has none.
_HANGUP = getattr(signal, "SIGHUP", None)
STOP_SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT),
    *([_HANGUP] if _HANGUP and signal.getsignal(_HANGUP) != signal.SIG_IGN else ()),
)
_PR_SET_PDEATHSIG = 1  # prctl(2)


def fork(run: Callable[[], int], name: str) -> int:
    """Fork a child that runs a function and exits with the status that it returns.

    Stop signals are blocked in the child, because its copies of the parent's handlers are wrong for
    it: ``run`` sets its own, then unblocks them.

    Args:
        run: What the child does.
        name: For the log, should it fail.

    Returns:
        The child's process id.

    Raises:
        OSError: there may be no more processes, or no memory.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    parent = os.getpid()
    try:
        pid = os.fork()
    finally:
        if os.getpid() == parent:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    if pid:
        return pid
    status = 1
    try:
        status = run()
    except BaseException:
        log.exception("%s failed", name)
    finally:
        logging.shutdown()
        os._exit(status)  # the parent's exit handlers are not to run here


def end_with(parent: int) -> None:
    """Have this process killed when its parent ends, in whatever way.

    Args:
        parent: Process id.
    """
    with contextlib.suppress(OSError, AttributeError):  # only Linux has prctl
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)
