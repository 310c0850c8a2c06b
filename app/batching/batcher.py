"""Joins the rows of concurrent requests into one call of the model.

Knows neither torch nor HTTP. A request brings rows for one *operation*, named by its key (rows of
one operation can share a call), and gets their results in order. While one call runs in the
executor, new requests wait. When it returns, the ``Scheduler`` chooses the next operation and its
rows: a large request is cut over several calls, and one call holds parts of many requests.

A call that is short and sure to end is made *inline*, on the event loop itself, which stands still
meanwhile: to hand it to a thread and to hear from that takes longer. Should it not end, whoever
watches ``ModelCalls.inline_call_started`` from another thread has to act
(``app.process.watchdog``).

What cannot be served in time is refused at once (``Admission``). A request that was accepted is
answered, whatever happens: by its results, by the failure of its own rows, at its deadline, when
the model hangs, or when the batcher ends.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Generic

from app.batching.accepted_requests import AcceptedRequests, notify
from app.batching.admission import Admission, Key
from app.batching.model_calls import ModelCalls
from app.batching.operation_queue import OperationQueue, QueueConfig
from app.batching.scheduler import Piece, Result, Row, Scheduler
from app.batching.ticket import BatchRequest, ClosedError, DeadlineError, HungError, Timing

log = logging.getLogger(__name__)


class Batcher(Generic[Key, Row, Result]):
    """See the module. Construct, use and close it on one event loop.

    Args:
        run: The model: ``run(key, rows)`` returns one result a row, in order. A result that is
            an exception fails its own request only. If ``run`` raises, the batch is run again in
            halves, so that only the requests at fault fail.
        executor: Where ``run`` is called, one call at a time; ``close`` shuts it down.
        operations: Every operation, by its key.
        max_wait_s: How long a batch that is not full waits for more, counted from the arrival of
            its first row, but at most half of the time to a deadline; 0 = not at all: batch what
            is queued while the model works.
        queue_limit, max_queue_s, target_s, max_share: As in ``Admission``.
        hang_s: How long a call may take before the model counts as hung.
        fatal: What ``run`` raises when no call can succeed any more: then the batcher ends.
        on_batch: Called with (key, rows, seconds) after each call, on the event loop.
        on_drop: Called with (key, rows, reason) for accepted rows that never reached the model,
            because their request had ended: ``left``, ``expired``, ``stopped`` or ``failed``.
        on_traced: Called with (key, traces, rows, seconds) after each call for requests that have a
            ``trace``.
        clock: Seconds, never backwards.
    """

    def __init__(
        self,
        run: Callable[[Key, list[Row]], Sequence[Result | Exception]],
        executor: Executor,
        operations: Mapping[Key, QueueConfig],
        *,
        max_wait_s: float = 0.0,
        queue_limit: int,
        max_queue_s: float = math.inf,
        target_s: float = math.inf,
        max_share: float = 1.0,
        hang_s: float = math.inf,
        fatal: tuple[type[Exception], ...] = (),
        on_batch: Callable[[Key, int, float], None] | None = None,
        on_drop: Callable[[Key, int, str], None] | None = None,
        on_traced: Callable[[Key, Sequence[object], int, float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.calls = ModelCalls(run, executor, hang_s, fatal, self._hang)
        self._max_wait_s = max_wait_s
        self._on_batch, self._on_traced = on_batch, on_traced
        self.clock = clock
        self._queues: dict[Key, OperationQueue[BatchRequest[Row, Result]]] = {
            key: OperationQueue(config) for key, config in operations.items()
        }
        self.admission = Admission(self._queues, queue_limit, max_queue_s, max_share, target_s)
        self._scheduler = Scheduler(self._queues, max_wait_s)
        self._requests = AcceptedRequests(self._queues, self._changed, on_drop, clock)
        self._arrival = asyncio.Event()
        self._closing = False
        self._free_since = 0.0  # when the next call could have begun
        self.changes = 0  # of what a new request would meet, by all but new requests
        self._task = asyncio.get_running_loop().create_task(self._serve(), name="batcher")
        self._task.add_done_callback(self._ended)

    async def submit(
        self,
        key: Key,
        rows: Sequence[Row],
        deadline: float = math.inf,
        client_disconnected: Callable[[], bool] | None = None,
        client: Hashable = None,
        trace: object = None,
        background: bool = False,
    ) -> tuple[list[Result], Timing]:
        """The results of ``rows`` in order; see ``begin``. Cancelling the caller withdraws the rows
        that have not run.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_end(_: object) -> None:
            if not done.done():  # the caller may just have been cancelled
                done.set_result(None)

        request = self.begin(
            *(key, rows, on_end, deadline, client_disconnected, client, trace, background)
        )
        try:
            await done
        except BaseException as error:
            self._requests.withdraw(request, error)
            raise
        return request.outcome()

    def begin(
        self,
        key: Key,
        rows: Sequence[Row],
        on_end: Callable[[BatchRequest[Row, Result]], None],
        deadline: float = math.inf,
        client_disconnected: Callable[[], bool] | None = None,
        client: Hashable = None,
        trace: object = None,
        background: bool = False,
    ) -> BatchRequest[Row, Result]:
        """Queue rows, for a caller that has no task to wait in.

        Args:
            key: The operation.
            rows: At least one.
            on_end: Called once, in a later turn of the event loop, with the request that is
                returned here. Its ``outcome`` then returns the results or raises.
            deadline: When, on ``clock``, the results are worth nothing any more.
            client_disconnected: Called before the rows are run: whether the client has gone away.
                Cheaper than a task that waits for that and cancels the caller.
            client: Whose request it is: clients take turns. None = nobody's in particular.
            trace: Given to ``on_traced`` with each call that the request is part of.
            background: Let all others go first. Such rows are not refused for a wait or for want
                of room, and others are not refused because of them: the caller limits them.

        Raises:
            OverloadError: they would wait too long, or have no room; none is run.
            DeadlineError: the deadline passed, here or in the outcome; queued rows are not run.
            ClientDisconnectedError: in the outcome: the client has gone; queued rows are not run.
            HungError: the model does not return.
            ClosedError: the batcher is closing.
            Exception: in the outcome: what the model raised for this request's rows.
        """
        now = self.check(key, len(rows), deadline, client, background)
        request: BatchRequest[Row, Result] = BatchRequest(
            waiting=len(rows),
            client=client,
            background=background,
            key=key,
            rows=rows,
            arrived=now,
            deadline=deadline,
            due=now + min(self._max_wait_s, (deadline - now) / 2),
            client_disconnected=client_disconnected,
            trace=trace,
            on_fail=self._requests.failed,
            on_end=on_end,
        )
        self._scheduler.add(request, key, now)
        self._requests.add(request, now)
        self._arrival.set()
        return request

    def check(
        self,
        key: Key,
        rows: int,
        deadline: float = math.inf,
        client: Hashable = None,
        background: bool = False,
    ) -> float:
        """Raise what ``begin`` would raise for so many rows; else return the time."""
        assert rows
        now = self.clock()
        if self._closing:
            raise ClosedError("the batcher is closing")
        if self.hung:
            raise HungError("the model does not return")
        if deadline <= now:
            raise DeadlineError("the deadline had passed on arrival")
        if not background:
            idle = not self._requests.in_foreground
            self.admission.check(key, rows, now, deadline - now, idle, client)
        return now

    async def close(self) -> None:
        """Refuse new requests, finish those accepted, then shut the executor down.

        A hung model is not waited for; its thread is left behind.
        """
        self._closing = True
        self._changed()
        self._arrival.set()
        if self.hung:
            self._task.cancel()
        await asyncio.wait([self._task])
        self.calls.close()

    @property
    def waiting(self) -> int:
        """Rows in the queue, those of cancelled requests and in the background not counted."""
        return self.admission.waiting

    @property
    def waiting_in_background(self) -> int:
        """Rows in the background."""
        return sum(queue.background.waiting for queue in self._queues.values())

    @property
    def unanswered(self) -> int:
        """Requests that were accepted and have not ended."""
        return len(self._requests)

    @property
    def hung(self) -> bool:
        """Whether the running call has taken over ``hang_s``."""
        return self.calls.hung

    @property
    def alive(self) -> bool:
        """Whether requests are being served: the task has not ended, and the model returns."""
        return not self._task.done() and not self.hung

    def _changed(self) -> None:
        self.changes += 1

    def _hang(self) -> None:
        """The running call takes too long. If it does return one day, all goes on as before."""
        self._changed()
        self._requests.fail_all(HungError, "the model does not return")
        if self._closing:
            self._task.cancel()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Leave nobody waiting when the batcher's task has ended: closed, by a fatal error, by a
        bug of ours, or with its event loop."""
        self._closing = True
        self._changed()
        self._requests.stop_timer()
        self._requests.fail_all(ClosedError, "the batcher has ended")
        if not task.cancelled() and (error := task.exception()):
            log.critical("the batcher has ended", exc_info=error)

    async def _serve(self) -> None:
        """Make one call after another until the batcher is closed and nothing is queued."""
        self._free_since = self.clock()
        while True:
            now = self.clock()
            key, wait_s = self._scheduler.next_key(now, fill=not self._closing)
            if key is not None:
                self._changed()
                if pieces := self._scheduler.take(key, now):
                    await self._call(key, pieces)
                del pieces  # the next batch may be hours away, and requests hold their bodies
            elif self._closing:  # nothing is queued, for then all that is queued is due
                return
            else:
                self._arrival.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._arrival.wait(), wait_s)
                self._free_since = self.clock()

    async def _call(self, key: Key, pieces: list[Piece[Row, Result]]) -> None:
        """Run one batch and give each request its part of the results."""
        batch = [row for _, rows in pieces for row in rows]
        queue = self._queues[key]
        inline = len(batch) <= queue.inline_rows
        started = self.clock()
        self.admission.call_ends = started + queue.service_rate.seconds(len(batch))
        results = await self.calls.call(key, batch, started if inline else None)
        now = self.clock()
        self._changed()
        free_since, self._free_since, self.admission.call_ends = self._free_since, now, now
        if isinstance(results, Exception):
            if inline:
                await self._let_others_run()
            await self._divide(key, pieces, results)
            return
        # Not from ``started``: what the event loop does between two calls slows the queue too.
        queue.service_rate.observe(len(batch), now - free_since)
        notify(self._on_batch, key, len(batch), now - started)
        if self._on_traced:
            traces = [request.trace for request, _ in pieces if request.trace is not None]
            if traces:
                notify(self._on_traced, key, traces, len(batch), now - started)
        start = 0
        ended: list[BatchRequest[Row, Result]] = []
        if not inline:
            # In a turn of its own: the model gets its next batch before this one is answered.
            asyncio.get_running_loop().call_soon(self._requests.deliver, ended)
        for request, rows in pieces:
            part = results[start : start + len(rows)]
            if request.add_results(part, now - started, len(batch)):
                ended.append(request)
            start += len(rows)
        if inline:
            self._requests.deliver(ended)
            await self._let_others_run()

    @staticmethod
    async def _let_others_run() -> None:
        """Let the event loop read what came during an inline call, then queue it."""
        for _ in range(2):
            await asyncio.sleep(0)

    async def _divide(self, key: Key, pieces: list[Piece[Row, Result]], error: Exception) -> None:
        """A call raised: fail the request if it was one, else run its halves apart."""
        if len(pieces) == 1:
            pieces[0][0].fail(error)
            return
        middle = len(pieces) // 2
        for half in (pieces[:middle], pieces[middle:]):
            now = self.clock()
            if live := [piece for piece in half if not piece[0].end_if_obsolete(now)]:
                await self._call(key, live)
