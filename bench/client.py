"""Open loop: requests are sent by the clock, whether or not the last ones are answered.

``python -m bench.client URL --rate R --seconds S``. A latency counts from the time at which its
request was due, so a server that stalls pays for all who came meanwhile; a closed loop would just
not have asked (Tene's "coordinated omission"; wrk2 counts alike). All connections are open before
the first request. Where none is free, requests wait here, and the wait counts.
"""

import argparse
import asyncio
import json
import math
import resource
import subprocess
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvloop

from bench.children import BenchError, module

clock = perf_counter  # uvloop's own counts whole milliseconds
TICK_S = 0.001  # sending once a millisecond: to wait more exactly would take a whole core
GRACE_S = 10  # after the last request was due; what is not answered then has failed


def schedule(rate: float, seconds: float) -> list[float]:
    """Seconds after the start at which each request is due: evenly, ``rate`` a second."""
    return [i / rate for i in range(math.ceil(rate * seconds))]


def centile(values: Sequence[float], percent: float) -> float:
    """The least value that at least ``percent`` of 100 are not above (nearest rank); none: 0."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


@dataclass
class Tally:
    """What came back."""

    seconds: float  # in which requests were due
    due: int = 0
    latencies_ms: list[float] = field(default_factory=list)  # of what was answered 200
    in_time: int = 0  # of these, how many within ``seconds``
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry: int = 0  # 503 without Retry-After
    broken: int = 0  # the connection ended, or was never answered
    lags_ms: list[float] = field(default_factory=list)  # sent after it was due, a connection free

    def told(self, cpu_share: float) -> dict[str, float]:
        """One line of figures. Rates are answers a second."""
        return {
            "offered_per_s": self.due / self.seconds,
            "ok_per_s": self.in_time / self.seconds,
            "p50_ms": centile(self.latencies_ms, 50),
            "p99_ms": centile(self.latencies_ms, 99),
            "max_ms": max(self.latencies_ms, default=0.0),
            "ok": self.statuses[200],
            "refused": self.statuses[503],
            "refused_without_retry": self.without_retry,
            "other": sum(n for status, n in self.statuses.items() if status not in (200, 503)),
            "broken": self.broken,
            "lag_p99_ms": centile(self.lags_ms, 99),
            "cpu_share": cpu_share,
        }


class _Connection(asyncio.Protocol):
    """One request at a time, keep-alive."""

    transport: asyncio.Transport

    def __init__(self, load: "Load") -> None:
        self.load, self.retry = load, False
        self.due: float | None = None  # when the request under way was due; None = free
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def send(self, due: float) -> None:
        self.due, self.retry = due, False
        self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, _: bytes) -> None:
        self.retry = self.retry or name.lower() == b"retry-after"

    def on_message_complete(self) -> None:
        due, self.due = self.due, None
        if due is not None:
            status, keep = self.parser.get_status_code(), self.parser.should_keep_alive()
            self.load.answered(self, due, status, self.retry, keep)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.load.lost(self)


class Load:
    """One run against one address."""

    def __init__(self, url: str, method: str, rate: float, seconds: float) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        head = [f"{method} {path} HTTP/1.1", f"Host: {parts.netloc}"]
        head += ["Content-Length: 0"] if method == "POST" else []
        self.request = "\r\n".join([*head, "", ""]).encode()
        self._offsets = schedule(rate, seconds)
        self.tally = Tally(seconds)
        # The one that has been free for longest goes next. The newest first would favour whichever
        # process of the server answers soonest, in an overload the one that refuses, and the
        # others would stand idle.
        self._free: deque[_Connection] = deque()
        self._waiting: deque[float] = deque()
        self._under_way = 0
        self._ends = 0.0
        self._closing = False
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self, connections: int) -> None:
        """Send everything when it is due, then wait for the last answers."""
        for _ in range(connections):
            await self._open()
        start = clock() + 0.05
        self._ends = start + self.tally.seconds
        for number, offset in enumerate(self._offsets):
            due = start + offset
            if not number % 16:
                await asyncio.sleep(0)  # answers are read even where sending is behind
            while (now := clock()) < due:  # noqa: ASYNC110, the clock is what is waited for
                await asyncio.sleep(max(due - now, TICK_S))
            self.tally.due += 1
            if self._free:
                self.tally.lags_ms.append((now - due) * 1e3)
                self._send(self._free.popleft(), due)
            else:
                self._waiting.append(due)
        while clock() < self._ends + GRACE_S:
            if not self._under_way and not self._waiting:
                break
            await asyncio.sleep(0.01)
        self.tally.broken += self._under_way + len(self._waiting)
        self._closing = True
        for connection in self._free:
            connection.transport.close()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self), *self._address)
        self._use(connection)

    def _use(self, connection: _Connection) -> None:
        """A connection has become free."""
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._free.append(connection)

    def _send(self, connection: _Connection, due: float) -> None:
        self._under_way += 1
        connection.send(due)

    def answered(
        self, connection: _Connection, due: float, status: int, retry: bool, keep: bool
    ) -> None:
        """Count an answer; ``keep``: whether the server leaves the connection open."""
        now = clock()
        self._under_way -= 1
        self.tally.statuses[status] += 1
        if status == 200:
            self.tally.latencies_ms.append((now - due) * 1e3)
            self.tally.in_time += now <= self._ends
        elif status == 503 and not retry:
            self.tally.without_retry += 1
        if keep:
            self._use(connection)
        else:
            connection.transport.close()

    def lost(self, connection: _Connection) -> None:
        """Another one in its place, or the rest would come through fewer and fewer."""
        if connection.due is not None:
            self._under_way -= 1
            self.tally.broken += 1
        elif connection in self._free:
            self._free.remove(connection)
        if not self._closing:
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)


def start(
    url: str, rate: float, seconds: float, connections: int, method: str = "POST"
) -> subprocess.Popen[str]:
    """The generator in a process of its own, under way."""
    options = {"rate": rate, "seconds": seconds, "connections": connections, "method": method}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = module("bench.client", url, *words)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, float]:
    """Its figures.

    Raises:
        BenchError: it failed.
    """
    out, err = process.communicate()
    if process.returncode:
        raise BenchError(f"the open-loop generator failed: {err.strip()[-500:]}")
    told: dict[str, float] = json.loads(out)
    return told


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.client")
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--method", default="POST")
    args = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    load = Load(args.url, args.method, args.rate, args.seconds)
    began, cpu = clock(), process_time()
    uvloop.run(load.run(args.connections))
    share = (process_time() - cpu) / (clock() - began)
    print(json.dumps(load.tally.told(share)))


if __name__ == "__main__":
    main()
