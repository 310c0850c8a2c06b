"""Ctrl-C and SIGTERM: stop after the current step, with the state saved."""

import signal
import threading
from contextlib import ExitStack
from types import FrameType
from typing import Self


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended the run after a whole step, which the argument names; it is saved."""


class GracefulStop:
    """Context manager that handles Ctrl-C and SIGTERM: the first sets ``requested``, so that a loop
    can finish its step and save; a second Ctrl-C raises KeyboardInterrupt at once.

    Outside the main thread it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.signal(number, self._handle)
                self._stack.callback(signal.signal, number, before)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
