"""Who is let in: requests that would wait too long, or have no room, are refused at once.

What is too long depends on the queue. One that empties again may be long for a moment: that is a
burst. One that *stands*, because more is asked for than can be done, only makes everybody wait, and
is kept at a target: controlled delay (Nichols & Jacobson, RFC 8289), in the form that Maurer gives
it for servers ("Fail at scale", ACM Queue 13(8), 2015). Where CoDel has to let a packet wait to
know its delay, the rate of the model is known here, and a wait is predicted on arrival.
"""

import math
from collections.abc import Hashable, Mapping
from typing import Generic, Literal, NamedTuple, TypeVar

from app.batching.fair_queue import Ticket
from app.batching.operation_queue import OperationQueue

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T", bound=Ticket)

Reason = Literal["queue", "wait", "deadline"]

PRESENT_S = 1.0  # after a request its client counts as present
INTERVAL_S = 0.05  # without having been short, until a queue stands
# In a queue that stands a request may always wait so many times as long as it takes itself: a
# target in seconds suits no slow model, and a few clients that ask for many images are no overload.
STRETCH = 16
CALLS = 4  # and so many full calls: less might not keep the model busy


class OverloadError(Exception):
    """The request would wait too long, or has no room; nothing of it is run.

    Args:
        reason: ``queue``: there is no room; ``wait``: the predicted wait is over what is allowed;
            ``deadline``: its results are predicted for after its deadline.
        predicted_s, allowed_s: What was predicted, and the limit; both 0 for ``queue``.
        retry_after_s: Whole seconds, at least 1, until all that is queued should be done.
        own_rows: Rows that the client has queued, where that is why: other clients are present,
            and it has more than an equal share of what waits. None = that is not why.
    """

    def __init__(
        self,
        reason: Reason,
        predicted_s: float,
        allowed_s: float,
        retry_after_s: int,
        own_rows: int | None = None,
    ) -> None:
        super().__init__(f"{reason}: {predicted_s:.3f} s predicted, {allowed_s:.3f} s allowed")
        self.reason = reason
        self.predicted_s, self.allowed_s = predicted_s, allowed_s
        self.retry_after_s = retry_after_s
        self.own_rows = own_rows


class _Queued(NamedTuple):
    """What is queued, as a new request meets it."""

    rows: int
    before_s: float  # of those that go before the request
    all_s: float
    call_s: float  # of the longest full call among their operations


class Admission(Generic[Key, T]):
    """See the module. Times are seconds on the caller's clock.

    Args:
        queues: Of all operations; they share one model thread, so each waits for all.
        queue_limit: Rows waiting at most, over all operations.
        max_queue_s: Predicted wait behind the rows of others, over which requests are refused.
        target_s: The same for a queue that stands, but for STRETCH and CALLS.
        max_share: Of the room that other clients leave in the queue, how much one client may fill
            (dynamic thresholds: Choudhury & Hahne 1998). So some room stays free whatever one
            client queues, and several get the same share each. A client that has nothing queued
            may fill all of it.
    """

    def __init__(
        self,
        queues: Mapping[Key, OperationQueue[T]],
        queue_limit: int,
        max_queue_s: float,
        max_share: float = 1.0,
        target_s: float = math.inf,
    ) -> None:
        self.queues = queues
        self._queue_limit = queue_limit
        self._max_queue_s = max_queue_s
        self._target_s = target_s
        self._short_at = -math.inf  # when the queue last was no longer than half of the target
        self._max_share = max_share
        self._latest: Hashable = None  # the client that asked last
        self._latest_at = -math.inf
        self._other_at = -math.inf  # when another than the latest last asked
        self.call_ends = -math.inf  # when the running call should; in the past = none is running

    @property
    def waiting(self) -> int:
        """Rows in all queues, the background not counted."""
        return sum(queue.foreground.waiting for queue in self.queues.values())

    @property
    def rates(self) -> dict[Key, float]:
        """Rows a second by which waits are predicted; 0 = not known yet."""
        return {key: queue.service_rate.rate for key, queue in self.queues.items()}

    def wait_s(self, now: float) -> float:
        """Until all that is queued should be done."""
        return self._running_s(now) + self._before(1).all_s

    def retry_after_s(self, now: float) -> int:
        """The same in whole seconds, at least 1."""
        return max(1, math.ceil(self.wait_s(now)))

    def check(
        self,
        key: Key,
        rows: int,
        now: float,
        left_s: float,
        idle: bool,
        client: Hashable = None,
    ) -> None:
        """Refuse what cannot be answered in time.

        Args:
            key: The operation.
            rows: Of the new request.
            now: The time.
            left_s: The time until its deadline.
            idle: Whether nothing is queued or running. An idle model always tries: otherwise a
                rate once measured too low would stay for ever.
            client: Whose it is; None = nobody's in particular.

        Raises:
            OverloadError
        """
        if client is not None:
            self._note_present(client, now)
        queued = self._before(rows, client)
        over = queued.rows + rows > self._queue_limit
        if over or self._is_over_share(queued.rows, rows, client):
            raise self._refusal("queue", 0.0, 0.0, now, client)
        # Half: what is refused at the target keeps the queue there, and must not end by that.
        if idle or queued.all_s <= self._target_s / 2:
            self._short_at = now
        if idle:
            return
        own_s = self.queues[key].service_rate.seconds(rows)
        allowed_s = self._max_queue_s
        if now - self._short_at > INTERVAL_S:
            standing_s = max(self._target_s, STRETCH * own_s, CALLS * queued.call_s)
            allowed_s = min(allowed_s, standing_s)
        seconds = self._running_s(now) + queued.before_s
        if seconds > allowed_s:
            raise self._refusal("wait", seconds, allowed_s, now, client)
        if seconds + own_s > left_s:
            raise self._refusal("deadline", seconds + own_s, left_s, now, client)

    def _running_s(self, now: float) -> float:
        """Until the running call should end."""
        return max(0.0, self.call_ends - now)

    def _before(self, rows: int, client: Hashable = None) -> _Queued:
        """What a request of so many rows meets."""
        waiting, before_s, all_s, call_s = 0, 0.0, 0.0, 0.0
        for queue in self.queues.values():
            if queued := queue.foreground.waiting:
                waiting += queued
                rate = queue.service_rate
                before_s += rate.seconds(queue.foreground.rows_before(rows, client))
                all_s += rate.seconds(queued)
                call_s = max(call_s, rate.seconds(queue.max_batch))
        return _Queued(waiting, before_s, all_s, call_s)

    def _note_present(self, client: Hashable, now: float) -> None:
        """Remember that a client asked."""
        if client != self._latest:
            self._latest, self._other_at = client, self._latest_at
        self._latest_at = now

    def _waiting_of(self, client: Hashable) -> int:
        """Rows that a client has in all queues."""
        return sum(
            queue.foreground.waiting_of(client)
            for queue in self.queues.values()
            if queue.foreground.waiting
        )

    def _is_over_share(self, waiting: int, rows: int, client: Hashable) -> bool:
        """Whether so many rows more would be over a client's share of the queue."""
        if self._max_share == 1 or client is None:
            return False
        if waiting + rows <= self._max_share * self._queue_limit:
            return False  # even if all that waits were its own
        own = self._waiting_of(client)
        others = waiting - own
        return own > 0 and own + rows > self._max_share * (self._queue_limit - others)

    def _refusal(
        self,
        reason: Reason,
        predicted_s: float,
        allowed_s: float,
        now: float,
        client: Hashable,
    ) -> OverloadError:
        own = None
        if client is not None and now - self._other_at < PRESENT_S:  # it is the latest itself
            clients = max(2, *(queue.foreground.clients for queue in self.queues.values()))
            own = self._waiting_of(client)
            own = own if own * clients > self.waiting else None
        return OverloadError(reason, predicted_s, allowed_s, self.retry_after_s(now), own)
