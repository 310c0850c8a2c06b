"""An event loop that a hanging model blocks: noticed, and its clients answered, from a thread."""

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from app.http.fast_path import Lean
from app.http.protocol import answer_last

_LOOKS = 10  # at least, while one call lasts


def start_watchdog(
    call_started: Callable[[], float | None], limit_s: float, on_stuck: Callable[[], None]
) -> None:
    """Start a thread that notices a call that does not end.

    It counts its own looks instead of measuring time: while the process or its machine was
    suspended, it did not look either.

    Args:
        call_started: When the running call started, on any clock; None = none is running.
        limit_s: How long one call may take; noticed up to a tenth of that later, or a second.
        on_stuck: Called once, in that thread, when a call has taken longer.
    """
    interval_s = min(1.0, limit_s / _LOOKS)
    limit = math.ceil(limit_s / interval_s)

    def look() -> None:
        seen, times = None, 0
        while times < limit:
            time.sleep(interval_s)
            started = call_started()
            times = times + 1 if started is not None and started == seen else 0
            seen = started
        on_stuck()

    threading.Thread(target=look, name="watchdog", daemon=True).start()


def answer_waiting(connections: Iterable[Any], new: Iterable[socket.socket], lean: Lean) -> None:
    """Answer every client that waits, past an event loop that is blocked; from another thread.

    Args:
        connections: Protocols of ``app.http.protocol``.
        new: Connections that the event loop does not know yet.
        lean: Writes the answers.
    """
    for connection in connections:
        with contextlib.suppress(Exception):  # it must not cost the others their answer
            connection.answer_last()
    for accepted in new:
        accepted.setblocking(False)
        answer_last(accepted.fileno(), lean, waits=False)
