"""Joins the rows of concurrent requests into one call of the model.

Knows neither torch nor HTTP. A request brings rows for one *lane* (a lane's rows can share a call:
one model, one operation) and gets their results in order. While one call runs in the executor,
what arrives waits; when it returns, the lane whose first client has waited longest for its turn
gives the next batch (``app.batching.fair_queue``). A large request is cut over several calls, and
one call holds parts of many requests, of many clients.

A call that is short and sure to end is made on the event loop itself, which stands still meanwhile:
to hand it to a thread and to hear from that takes longer than it is worth (docs/log.md). Should it
not end, whoever watches ``inline_call_started`` from another thread has to answer
(``app.process.watchdog``).

Rows in the *background* go after all others: they get what room a call has left, but at most a
tile of it, so that they hold up nobody who shares it; whole calls while nobody else waits, cut to a
tile where others have asked of late; and a tile in every eighth call or so, whatever else waits.

Who cannot be served in time is told so at once (``app.batching.admission``). Who is accepted is
answered,
whatever happens: by the results, by the failure of its own rows, at its deadline, when the model
hangs, or when the batcher ends.
"""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from operator import itemgetter
from typing import Generic, TypeVar

from app.batching.admission import Admission, QueueConfig
from app.batching.fair_queue import Shares
from app.batching.ticket import (
    BatchRequest,
    ClientDisconnectedError,
    ClosedError,
    DeadlineError,
    HungError,
    Timing,
)

log = logging.getLogger(__name__)

Lane = TypeVar("Lane", bound=Hashable)
Row = TypeVar("Row")
Result = TypeVar("Result")

# Why rows of an accepted request never reached the model; anything else: another row failed.
_REASONS: dict[type[BaseException], str] = {
    asyncio.CancelledError: "left",
    ClientDisconnectedError: "left",
    DeadlineError: "expired",
    HungError: "stopped",
    ClosedError: "stopped",
}

_PATIENCE = 7  # calls in a row that leave what waits in the background out
_QUIET_S = 1.0  # without other requests, until calls for the background alone are full ones

_Piece = tuple[BatchRequest[Row, Result], Sequence[Row]]


class Batcher(Generic[Lane, Row, Result]):
    """See the module. Make, use and close it on one event loop.

    Args:
        run: The model: ``run(lane, rows)`` returns one result a row, in order. A result that is
            an exception fails its own request only. If ``run`` raises, the batch is run again in
            halves, so that only the guilty requests fail.
        executor: Where ``run`` is called, one call at a time; ``close`` shuts it down.
        lanes: All that there are, with the rows of one call at most, and of one that is made on the
            event loop and not in the executor.
        max_wait_s: How long a batch that is not full waits for more, counted from the arrival of
            its first row, but at most half of the time to a deadline; 0 = not at all: batch what
            is queued while the model works.
        queue_limit, max_queue_s, max_share: As in ``Admission``.
        hang_s: How long a call may take before the model counts as hung.
        fatal: What ``run`` raises if no call can succeed any more: then the batcher ends.
        on_batch: Called with (lane, rows, seconds) after each call, on the event loop.
        on_drop: Called with (lane, rows, reason) for accepted rows that never reached the model,
            because their request had ended: ``left``, ``expired``, ``stopped`` or ``failed``.
        clock: Seconds, never backwards.
    """

    def __init__(
        self,
        run: Callable[[Lane, list[Row]], Sequence[Result | Exception]],
        executor: Executor,
        lanes: Mapping[Lane, QueueConfig],
        *,
        max_wait_s: float = 0.0,
        queue_limit: int,
        max_queue_s: float = math.inf,
        max_share: float = 1.0,
        hang_s: float = math.inf,
        fatal: tuple[type[Exception], ...] = (),
        on_batch: Callable[[Lane, int, float], None] | None = None,
        on_drop: Callable[[Lane, int, str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._executor = executor
        self._max_wait_s = max_wait_s
        self._hang_s = hang_s
        self._fatal = fatal
        self._on_batch = on_batch
        self._on_drop = on_drop
        self.clock = clock
        self.admission: Admission[Lane, BatchRequest[Row, Result]] = Admission(
            lanes, queue_limit, max_queue_s, max_share
        )
        self._requests: set[BatchRequest[Row, Result]] = set()  # accepted and not yet answered
        self._in_background = 0  # of these
        self._passed_over = 0  # calls without background rows while some waited
        self._asked = -math.inf  # when the last request came that is not in the background
        self._arrival = asyncio.Event()
        self._closing = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf  # not later than the first deadline
        self._free_since = 0.0  # when the next call could have begun
        self.changes = 0  # of what a new request would meet, by all but new requests
        self.hung = False  # the running call has taken over hang_s
        # When the call began for which the event loop stands still; another thread may look.
        self.inline_call_started: float | None = None
        # That thread has answered in place of this one, which must do no more.
        self.abandoned = False
        self._task = asyncio.get_running_loop().create_task(self._serve())
        self._task.add_done_callback(self._ended)

    async def submit(
        self,
        lane: Lane,
        rows: Sequence[Row],
        deadline: float = math.inf,
        left: Callable[[], bool] | None = None,
        client: Hashable = None,
        background: bool = False,
    ) -> tuple[list[Result], Timing]:
        """The results of ``rows`` in order; see ``begin``. Cancelling the caller withdraws what is
        not yet run.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def then(_: object) -> None:
            if not done.done():  # cancelled, it has still to hear of that
                done.set_result(None)

        request = self.begin(lane, rows, then, deadline, left, client, background)
        try:
            await done
        except BaseException as error:
            if not request.ended:
                request.ended = True
                self._remove(request, error)
            raise
        return request.outcome()

    def begin(
        self,
        lane: Lane,
        rows: Sequence[Row],
        then: Callable[[BatchRequest[Row, Result]], None],
        deadline: float = math.inf,
        left: Callable[[], bool] | None = None,
        client: Hashable = None,
        background: bool = False,
    ) -> BatchRequest[Row, Result]:
        """Queue rows, for who waits without a task.

        Args:
            lane: What the rows are for.
            rows: At least one.
            then: Called once, in a later turn of the event loop, with what is returned here, whose
                ``outcome`` then has the results or raises.
            deadline: When, on ``clock``, the results are worth nothing any more.
            left: Asked before the rows are run: whether nobody waits for them any more. Cheaper
                than a task that waits for that and cancels the caller.
            client: Whose request it is: clients take turns. None = nobody's in particular.
            background: Let all others go first. Such rows are not refused for a wait or for want
                of room, and neither are others because of them: whoever asks bounds them.

        Raises:
            OverloadError: they would wait too long, or have no room; none is run.
            DeadlineError: the deadline passed, here or in the outcome; what was queued is not run.
            ClientDisconnectedError: in the outcome: ``left`` was true; what was still queued is not
            run. HungError: the model does not return. ClosedError: the batcher is closing.
            Exception: in the outcome: what the model raised for this request's rows.
        """
        now = self.check(lane, len(rows), deadline, client, background)
        left_s = deadline - now
        request: BatchRequest[Row, Result] = BatchRequest(
            waiting=len(rows),
            client=client,
            rows=rows,
            lane=lane,
            failed=self._failed,
            then=then,
            arrived=now,
            deadline=deadline,
            due=now + min(self._max_wait_s, left_s / 2),
            left=left,
            background=background,
        )
        queues = self.admission.lane(lane)
        queue = queues.background if background else queues.queue
        queue.add(request, now)
        self._requests.add(request)
        if background:
            self._in_background += 1
        else:
            self._asked = now
        self._arrival.set()
        self._watch(deadline, now)
        return request

    def _failed(self, request: BatchRequest[Row, Result]) -> None:
        """A request has failed, perhaps in the midst of a queue's work: it hears of it later."""
        asyncio.get_running_loop().call_soon(self._deliver, [request])

    def _deliver(self, requests: list[BatchRequest[Row, Result]]) -> None:
        """Tell those who wait that their requests have ended."""
        for request in requests:
            self._remove(request, request.error)
            self._tell(request.then, request)

    def _remove(self, request: BatchRequest[Row, Result], error: BaseException | None) -> None:
        """A request has ended: with its results, or with an error."""
        self.changes += 1
        if error:
            lane: Lane = request.lane  # type: ignore[assignment]
            if request.waiting:
                reason = _REASONS.get(type(error), "failed")
                self._tell(self._on_drop, lane, request.waiting, reason)
            queues = self.admission.lane(lane)
            (queues.background if request.background else queues.queue).remove(request)
        self._requests.discard(request)
        self._in_background -= request.background

    def check(
        self,
        lane: Lane,
        rows: int,
        deadline: float = math.inf,
        client: Hashable = None,
        background: bool = False,
    ) -> float:
        """Raise what ``submit`` would raise at once for so many rows; the time if it would not."""
        assert rows
        now = self.clock()
        if self._closing:
            raise ClosedError("the batcher is closing")
        if self.hung:
            raise HungError("the model does not return")
        if deadline <= now:
            raise DeadlineError("the deadline had passed on arrival")
        if not background:
            idle = len(self._requests) == self._in_background
            self.admission.check(lane, rows, now, deadline - now, idle, client)
        return now

    async def close(self) -> None:
        """Refuse new requests, finish those accepted, then shut the executor down.

        A hung model is not waited for; its thread is left behind.
        """
        self._closing = True
        self.changes += 1
        self._arrival.set()
        if self.hung:
            self._task.cancel()
        await asyncio.wait([self._task])
        self._executor.shutdown(wait=not self.hung, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """Rows in the queue, those of cancelled requests and in the background not counted."""
        return self.admission.waiting

    @property
    def waiting_in_background(self) -> int:
        """Rows in the background."""
        return self.admission.waiting_in_background

    @property
    def alive(self) -> bool:
        """Whether requests are being served: the task has not ended, and the model returns."""
        return not self._task.done() and not self.hung

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Leave nobody waiting for a batcher that is gone: by what is fatal, a bug of ours, or its
        loop's end."""
        self._closing = True
        self.changes += 1
        if self._alarm:
            self._alarm.cancel()
        self._fail_all(ClosedError, "the batcher has ended")
        if not task.cancelled() and (error := task.exception()):
            log.critical("the batcher has ended", exc_info=error)

    def _hang(self, lane: Lane, rows: int) -> None:
        """The running call takes too long. If it does return one day, all goes on as before."""
        self.hung = True
        self.changes += 1
        log.critical("a call of %s with %d rows has run for %s s", lane, rows, self._hang_s)
        self._fail_all(HungError, "the model does not return")
        if self._closing:
            self._task.cancel()

    def _watch(self, deadline: float, now: float) -> None:
        """See to it that the request of this deadline ends by then.

        One timer for all: most requests have the same long limit and are answered in a hundredth
        of it, so a timer each would be set and cancelled for nothing.
        """
        if deadline < self._alarm_at:
            if self._alarm:
                self._alarm.cancel()
            self._alarm_at = deadline
            self._alarm = asyncio.get_running_loop().call_later(deadline - now, self._ring)

    def _ring(self) -> None:
        self._alarm_at = math.inf
        now = self.clock()
        for request in list(self._requests):
            if request.deadline <= now:
                request.expire()
            else:
                self._watch(request.deadline, now)

    @staticmethod
    def _tell(observer: Callable[..., None] | None, *what: object) -> None:
        """Call an observer, which must not stop the service."""
        if observer:
            try:
                observer(*what)
            except Exception:
                log.exception("an observer of the batcher failed")

    def _fail_all(self, error: type[Exception], detail: str) -> None:
        for request in self._requests:
            request.fail(error(detail))

    async def _serve(self) -> None:
        self._free_since = self.clock()
        while True:
            lane, wait_s = self._next_lane()
            if lane is not None:
                if pieces := self._take(lane):
                    await self._call(lane, pieces)
            elif self._closing:  # then every lane with something in it is due
                return
            else:
                self._arrival.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._arrival.wait(), wait_s)
                self._free_since = self.clock()

    def _next_lane(self) -> tuple[Lane | None, float | None]:
        """Of the lanes that are due, the one whose first client has waited longest.

        A lane is due when it fills a batch or one of its requests is due. If none is, it is that
        of the background whose first client has waited longest, and it goes before all when it has
        been passed over too often. If nothing is to be done now, the second value is the time until
        the first lane will be due; None = nothing is queued.
        """
        first = itemgetter(0)
        waiting = [(queue.turn, name) for name, queue in self.admission.in_background()]
        behind = min(waiting, key=first, default=None)
        if behind and self._passed_over >= _PATIENCE:
            return behind[1], None
        due: list[tuple[float, Lane]] = []
        soonest: float | None = None
        now = self.clock()
        for lane, queue in self.admission.occupied():
            left_s, most = 0.0, self.admission.lane(lane).max_batch
            if self._max_wait_s and not self._closing and queue.waiting < most:
                left_s = min(request.due for request in queue.tickets) - now
            if left_s <= 0:
                due.append((queue.turn, lane))
            else:
                soonest = left_s if soonest is None else min(soonest, left_s)
        if due:
            return min(due, key=first)[1], None
        return (behind[1], None) if behind else (None, soonest)

    def _take(self, lane: Lane) -> list[_Piece[Row, Result]]:
        """The next batch of a lane; none if all for whom it was chosen are over."""
        now = self.clock()
        self.changes += 1
        queues = self.admission.lane(lane)
        tile, most = queues.tile, queues.max_batch
        owed = 0
        if self._passed_over >= _PATIENCE:
            owed = min(tile, queues.background.waiting)
        chosen_for_others = queues.queue.waiting and not owed
        pieces = self._pieces(queues.queue, most - owed, now)
        if chosen_for_others and not pieces:
            return []
        room = most - sum(len(rows) for _, rows in pieces)
        if pieces or now - self._asked < _QUIET_S:
            room = min(room, tile)
        behind = self._pieces(queues.background, room, now)
        waits = not behind and self.admission.waiting_in_background
        self._passed_over = self._passed_over + 1 if waits else 0
        return pieces + behind

    @staticmethod
    def _pieces(
        queue: Shares[BatchRequest[Row, Result]], room: int, now: float
    ) -> list[_Piece[Row, Result]]:
        """Up to ``room`` rows of a queue."""
        pieces: list[_Piece[Row, Result]] = []
        for request, count in queue.take(room, now, lambda r: r.is_over(now)):
            end = len(request.rows) - request.waiting
            if end == count:
                request.queue_s = now - request.arrived
            pieces.append((request, request.rows[end - count : end]))
        return pieces

    async def _call(self, lane: Lane, pieces: list[_Piece[Row, Result]]) -> None:
        """Run one batch and hand each request its part."""
        batch = [row for _, rows in pieces for row in rows]
        queues = self.admission.lane(lane)
        service_rate = queues.service_rate
        loop = asyncio.get_running_loop()
        started = self.clock()
        self.admission.call_ends = started + service_rate.seconds(len(batch))
        inline_rows = len(batch) <= queues.inline_rows
        watchdog = None
        if self._hang_s < math.inf and not inline_rows:
            watchdog = loop.call_later(self._hang_s, self._hang, lane, len(batch))
        failure: Exception | None = None
        results: Sequence[Result | Exception] = ()
        try:
            if inline_rows:
                self.inline_call_started = started
                results = self._run(lane, batch)
            else:
                results = await loop.run_in_executor(self._executor, self._run, lane, batch)
            if len(results) != len(batch):
                raise RuntimeError(f"the model returned {len(results)} results for {len(batch)}")
        except self._fatal:
            raise
        except Exception as error:
            failure = error
        finally:
            self.inline_call_started = None
            if watchdog:
                watchdog.cancel()
        if self.abandoned:
            threading.Event().wait()  # for the end of the process
        now = self.clock()
        self.hung = False
        self.changes += 1
        free_since, self._free_since, self.admission.call_ends = self._free_since, now, now
        if failure:
            if inline_rows:
                await self._turns()
            await self._divide(lane, pieces, failure)
            return
        # Not from ``started``: what the event loop does between two calls slows the queue too.
        service_rate.observe(len(batch), now - free_since)
        self._tell(self._on_batch, lane, len(batch), now - started)
        start = 0
        ended: list[BatchRequest[Row, Result]] = []
        if not inline_rows:
            # In a turn of their own: the model gets its next batch before answers are made of this.
            loop.call_soon(self._deliver, ended)
        for request, rows in pieces:
            if request.give(results[start : start + len(rows)], now - started, len(batch)):
                ended.append(request)
            start += len(rows)
        if inline_rows:
            self._deliver(ended)
            await self._turns()

    @staticmethod
    async def _turns() -> None:
        """What has come during a call on the event loop is read, then queued (as uvloop goes)."""
        for _ in range(2):
            await asyncio.sleep(0)

    async def _divide(
        self, lane: Lane, pieces: list[_Piece[Row, Result]], error: Exception
    ) -> None:
        """A call raised: fail the request if it was one, else run the halves apart."""
        if len(pieces) == 1:
            pieces[0][0].fail(error)
            return
        middle = len(pieces) // 2
        for half in (pieces[:middle], pieces[middle:]):
            now = self.clock()
            if live := [piece for piece in half if not piece[0].is_over(now)]:
                await self._call(lane, live)
