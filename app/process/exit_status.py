"""How the service ends: its exit statuses that are not 0, and an early Ctrl-C."""

import contextlib
import os
import signal
from enum import IntEnum

from app.process.hangup import terminal_has_closed


class ExitStatus(IntEnum):
    """Why the service ended."""

    USAGE = 2  # a setting is wrong
    UNAVAILABLE = 3  # nothing to serve, no such device, or the port is taken
    HUNG = 4  # a model hung, or the process could not go on for another reason


def from_wait(code: int) -> int:
    """An exit status as shells report it: 128 + N for a process that signal N has ended.

    Args:
        code: Of ``os.waitstatus_to_exitcode``: -N for a signal.
    """
    return 128 - code if code < 0 else code


def stop_before_ready(number: int, _: object) -> None:
    """A handler of signals, as long as there is nothing to stop: Ctrl-C gives one line."""
    if number == getattr(signal, "SIGHUP", None) and not terminal_has_closed():
        return  # to load anew what is just being loaded
    if number == signal.SIGINT:
        with contextlib.suppress(OSError):
            os.write(2, b"genserve: stopped before it was ready\n")
    os._exit(0)
