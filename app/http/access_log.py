"""The access log: a line for each response, in the common log format or as JSON.

A path is written without its query, where a client may have put what no log should keep.
"""

import json
import re
import time
from collections.abc import Callable
from typing import Literal

_ID = re.compile(rb"x-request-id: ([^\r]*)")
_TRACE = re.compile(rb"x-trace-id: ([0-9a-f]{32})")
_TIMES = re.compile(rb"queue;dur=([0-9.]+).*?compute;dur=([0-9.]+)")  # of Server-Timing
_MAX_PATH = 200  # characters
_UNUSUAL = re.compile(r"[^!#-\[\]-~]")  # not printable, a blank, a quote, a backslash


class AccessLog:
    """Formats and writes the lines.

    Args:
        form: ``common`` is NCSA's common log format, and behind it the request's id in quotes and
            milliseconds: in all, in the queue, in the model.
        write: Takes a line; must not wait.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        form: Literal["common", "json"],
        write: Callable[[bytes], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._as_json = form == "json"
        self._write = write
        self._clock = clock
        self._second, self._date = -1, ""

    def fast(
        self,
        client: str | None,
        method: str,
        path: str,
        status: int,
        lines: bytes,
        size: int,
        seconds: float,
    ) -> None:
        """``add`` for a response whose id and times stand in its header lines."""
        found, trace = _ID.search(lines), _TRACE.search(lines)
        request_id, trace_id = found[1].decode() if found else "-", trace and trace[1].decode()
        self.add(client, method, path, status, request_id, lines, size, seconds, trace_id)

    def add(
        self,
        client: str | None,
        method: str,
        path: str,
        status: int,
        request_id: str,
        timing: bytes,
        size: int,
        seconds: float,
        trace_id: str | None = None,
    ) -> None:
        """Write a line.

        Args:
            client: As ``app.core.clients`` names it; of a key's digest only a part is written.
            method, path: Of the request; "-" = not known.
            status: 499 = the client had gone.
            request_id: Of the response.
            timing: Server-Timing, wherever it stands in these bytes.
            size: Bytes of the body.
            seconds: From the request's head to the response's end.
            trace_id: 32 hex digits; None = it is not traced.
        """
        who = client or "-"
        if who.startswith("key "):
            who = f"key-{who[4:12]}"
        found = _TIMES.search(timing)
        queue_ms, model_ms = (float(found[1]), float(found[2])) if found else (None, None)
        now = self._clock()
        if self._as_json:
            fields = {
                "time": f"{self._time(now, '%Y-%m-%dT%H:%M:%S')}.{int(now % 1 * 1000):03d}Z",
                "request_id": request_id,
                "client": who,
                "method": method,
                "path": path[:_MAX_PATH].encode(errors="replace").decode(),
                "status": status,
                "bytes": size,
                "ms": round(seconds * 1e3, 2),
                "queue_ms": queue_ms,
                "model_ms": model_ms,
            }
            if trace_id:
                fields["trace_id"] = trace_id
            line = json.dumps(fields, separators=(",", ":"))
        else:
            shown = _UNUSUAL.sub(_escaped, path)
            times = " ".join("-" if t is None else f"{t:.2f}" for t in (queue_ms, model_ms))
            line = (
                f"{who} - - [{self._time(now, '%d/%b/%Y:%H:%M:%S +0000')}] "
                f'"{method} {shown[:_MAX_PATH]} HTTP/1.1" {status} {size} "{request_id}" '
                f"{seconds * 1e3:.2f} {times}{f' {trace_id}' if trace_id else ''}"
            )
        self._write(line.encode() + b"\n")

    def _time(self, now: float, form: str) -> str:
        """The time in UTC, to a second; formatted once in each."""
        if int(now) != self._second:
            self._second, self._date = int(now), time.strftime(form, time.gmtime(now))
        return self._date


def _escaped(character: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in character[0].encode(errors="replace"))
