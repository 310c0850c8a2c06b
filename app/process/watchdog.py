"""An event loop that a hanging model blocks: noticed, and its clients answered, from a thread."""

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.errors import STOPPED_RETRY_S, NotReadyError
from app.http.connection.protocol import ServiceProtocol, Unanswered
from app.http.fast_path import FastPath

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


def answer_waiting(
    connections: Iterable[ServiceProtocol], new: Iterable[socket.socket], fast_path: FastPath
) -> None:
    """Answer every client that waits, past an event loop that is blocked; from another thread.

    Args:
        connections: Those that the event loop knows.
        new: Those that it does not know yet.
        fast_path: Writes the responses.
    """
    for connection in connections:
        with contextlib.suppress(Exception):  # it must not cost the others their response
            if client := connection.unanswered():
                send_last_response(client, fast_path)
    for accepted in new:
        accepted.setblocking(False)
        send_last_response(Unanswered(accepted.fileno(), False, b""), fast_path)


def send_last_response(client: Unanswered, fast_path: FastPath) -> None:
    """Send 503 to one client, if it has sent a request.

    A transport would not send anything any more, so the response goes straight to the socket, which
    must not block. What has been received is taken from there, too: a socket closed with unread
    data resets the connection, and the client would lose the response.
    """
    descriptor, request, target = client
    received = b""
    with contextlib.suppress(OSError):
        with contextlib.suppress(BlockingIOError):
            for _ in range(16):  # 1 MiB; the rest of a longer request is not waited for
                received += os.read(descriptor, 65536)
        if request or received:
            target = target or received.partition(b" ")[2].partition(b" ")[0]
            error = NotReadyError("a model hangs", retry_after_s=STOPPED_RETRY_S)
            status, lines, body = fast_path.unrouted_error(error, target)
            response = STATUS_LINE[status] + lines + b"connection: close\r\n\r\n" + body
            os.write(descriptor, response)
