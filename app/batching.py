"""Joins the rows of concurrent requests into one call of the model.

Knows neither torch nor HTTP. A request brings rows for one *lane* (a lane's rows can share a
call: one model, one operation) and gets their results in order. While one call runs in the
batcher's single thread, what arrives waits; when it returns, the lane whose first row has waited
longest gives the next batch. A request larger than a batch is cut into several, and one batch may
hold parts of many requests.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

Lane = TypeVar("Lane", bound=Hashable)
Row = TypeVar("Row")
Result = TypeVar("Result")


class QueueFullError(Exception):
    """No room for the request's rows; ``retry_after_s`` is when the queue should have drained."""

    def __init__(self, waiting: int, limit: int, retry_after_s: int) -> None:
        super().__init__(f"{waiting} of {limit} places are taken")
        self.waiting, self.limit, self.retry_after_s = waiting, limit, retry_after_s


class ClosedError(Exception):
    """The batcher takes no more work."""


@dataclass(frozen=True)
class Timing:
    """Where a request's time went; for a request cut in pieces, sums and the last batch."""

    queue_s: float  # from arrival until its first batch was formed
    run_s: float  # in calls of the model that it shared
    own_rows: int  # its rows in the last of these calls
    batch_rows: int  # all rows in that call


@dataclass
class _Request(Generic[Row, Result]):
    rows: Sequence[Row]
    done: "asyncio.Future[None]"
    arrived: float
    taken: int = 0  # rows handed to the model
    results: list[Result] = field(default_factory=list)
    queue_s: float = 0.0
    run_s: float = 0.0
    own_rows: int = 0
    batch_rows: int = 0

    @property
    def waiting(self) -> int:
        return len(self.rows) - self.taken


_Piece = tuple[_Request[Row, Result], Sequence[Row]]


class Batcher(Generic[Lane, Row, Result]):
    """See the module. Make, use and close it on one event loop.

    Args:
        run: The model: ``run(lane, rows)`` returns one result a row, in order. A result that is
            an exception fails its own request only. If ``run`` raises, each request of the batch
            is run alone, so that only the guilty ones fail.
        max_batch: Rows of one call at most.
        max_wait_s: How long a batch that is not full waits for more, counted from the arrival of
            its first row; 0 = not at all: batch what is queued while the model works.
        queue_limit: Rows waiting at most, over all lanes.
        start_thread: Called once in the model's thread, before any call.
        on_batch: Called with (lane, rows, seconds) after each call, on the event loop.
    """

    def __init__(
        self,
        run: Callable[[Lane, list[Row]], Sequence[Result | Exception]],
        *,
        max_batch: int,
        max_wait_s: float = 0.0,
        queue_limit: int,
        start_thread: Callable[[], None] | None = None,
        on_batch: Callable[[Lane, int, float], None] | None = None,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._queue_limit = queue_limit
        self._on_batch = on_batch
        self._lanes: dict[Lane, deque[_Request[Row, Result]]] = {}
        self._arrival = asyncio.Event()
        self._closing = False
        self._rows_per_s = 0.0  # smoothed over calls
        self.waiting = 0  # rows in the queue, those of cancelled requests not counted
        self._thread = ThreadPoolExecutor(1, "model", initializer=start_thread)
        self._task = asyncio.get_running_loop().create_task(self._serve())
        self._task.add_done_callback(self._ended)

    async def submit(self, lane: Lane, rows: Sequence[Row]) -> tuple[list[Result], Timing]:
        """The results of ``rows`` in order. Cancelling the caller withdraws what is not yet run.

        Raises:
            QueueFullError: the queue has no room for all of them; none is run.
            ClosedError: the batcher is closing.
            Exception: what the model raised for this request's rows.
        """
        if self._closing:
            raise ClosedError("the batcher is closing")
        if self.waiting + len(rows) > self._queue_limit:
            rate = self._rows_per_s or self._max_batch
            retry_after_s = max(1, math.ceil(self.waiting / rate))
            raise QueueFullError(self.waiting, self._queue_limit, retry_after_s)
        request: _Request[Row, Result] = _Request(
            rows, asyncio.get_running_loop().create_future(), time.monotonic()
        )
        self._lanes.setdefault(lane, deque()).append(request)
        self.waiting += len(rows)
        self._arrival.set()
        try:
            await request.done
        finally:
            self.waiting -= request.waiting  # not 0 if it failed or was cancelled half-way
        timing = Timing(request.queue_s, request.run_s, request.own_rows, request.batch_rows)
        return request.results, timing

    async def close(self) -> None:
        """Refuse new requests, finish those accepted, then stop the thread."""
        self._closing = True
        self._arrival.set()
        await asyncio.wait([self._task])
        self._thread.shutdown()

    @property
    def alive(self) -> bool:
        """Whether requests are still being served; False = the batcher's task has ended."""
        return not self._task.done()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Leave nobody waiting for a batcher that is gone: by a bug of ours, or its loop's end."""
        self._closing = True
        for queue in self._lanes.values():
            for request in queue:
                self._fail(request, ClosedError("the batcher has ended"))
        if not task.cancelled() and (error := task.exception()):
            log.critical("the batcher has ended", exc_info=error)

    async def _serve(self) -> None:
        while True:
            lane, wait_s = self._next_lane()
            if lane is not None:
                if pieces := self._take(lane):
                    await self._call(lane, pieces)
            elif wait_s is None and self._closing:
                return
            else:
                self._arrival.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._arrival.wait(), wait_s)

    def _next_lane(self) -> tuple[Lane | None, float | None]:
        """Of the lanes that are due, the one that has waited longest.

        A lane is due when it fills a batch or its first row has waited for ``max_wait_s``. If
        none is, the second value is the time until the first will be; None = nothing is queued.
        """
        due: list[tuple[float, Lane]] = []
        soonest: float | None = None
        now = time.monotonic()
        for lane, queue in self._lanes.items():
            while queue and queue[0].done.done():  # cancelled or failed
                queue.popleft()
            if not queue:
                continue
            left = queue[0].arrived + self._max_wait_s - now
            if left <= 0 or self._closing or self._fills_batch(queue):
                due.append((queue[0].arrived, lane))
            else:
                soonest = left if soonest is None else min(soonest, left)
        return (min(due, key=lambda entry: entry[0])[1], None) if due else (None, soonest)

    def _fills_batch(self, queue: "deque[_Request[Row, Result]]") -> bool:
        live = (request.waiting for request in queue if not request.done.done())
        return sum(live) >= self._max_batch

    def _take(self, lane: Lane) -> list[_Piece[Row, Result]]:
        """Up to ``max_batch`` rows from the front of the lane, in order of arrival."""
        queue, room = self._lanes[lane], self._max_batch
        pieces: list[_Piece[Row, Result]] = []
        now = time.monotonic()
        while queue and room:
            request = queue[0]
            if request.done.done():
                queue.popleft()
                continue
            if not request.taken:
                request.queue_s = now - request.arrived
            rows = request.rows[request.taken : request.taken + room]
            request.taken += len(rows)
            self.waiting -= len(rows)
            room -= len(rows)
            pieces.append((request, rows))
            if not request.waiting:
                queue.popleft()
        return pieces

    async def _call(self, lane: Lane, pieces: list[_Piece[Row, Result]]) -> None:
        """Run one batch and hand each request its part."""
        batch = [row for _, rows in pieces for row in rows]
        loop = asyncio.get_running_loop()
        started = time.monotonic()
        try:
            results = await loop.run_in_executor(self._thread, self._run, lane, batch)
            if len(results) != len(batch):
                raise RuntimeError(f"the model returned {len(results)} results for {len(batch)}")
        except Exception as error:
            if len(pieces) > 1:
                for piece in pieces:
                    if not piece[0].done.done():
                        await self._call(lane, [piece])
            else:
                self._fail(pieces[0][0], error)
            return
        seconds = time.monotonic() - started
        rate = len(batch) / max(seconds, 1e-6)
        self._rows_per_s += (rate - self._rows_per_s) * (0.2 if self._rows_per_s else 1.0)
        if self._on_batch:
            try:
                self._on_batch(lane, len(batch), seconds)
            except Exception:  # an observer must not stop the service
                log.exception("on_batch failed")

        start = 0
        for request, rows in pieces:
            part = results[start : start + len(rows)]
            start += len(rows)
            if request.done.done():
                continue
            request.run_s += seconds
            request.own_rows, request.batch_rows = len(rows), len(batch)
            for result in part:
                if isinstance(result, Exception):
                    self._fail(request, result)
                    break
                request.results.append(result)
            if not request.done.done() and len(request.results) == len(request.rows):
                request.done.set_result(None)

    @staticmethod
    def _fail(request: _Request[Row, Result], error: Exception) -> None:
        if not request.done.done():
            request.done.set_exception(error)
