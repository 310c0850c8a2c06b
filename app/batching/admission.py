"""Who is let in: requests that would wait too long, or have no room, are refused at once."""

import math
from collections.abc import Hashable, Mapping
from typing import Generic, Literal, TypeVar

from app.batching.fair_queue import Ticket
from app.batching.operation_queue import OperationQueue

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T", bound=Ticket)

Reason = Literal["queue", "wait", "deadline"]

PRESENT_S = 1.0  # after a request its client counts as present


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


class Admission(Generic[Key, T]):
    """See the module. Times are seconds on the caller's clock.

    Args:
        queues: Of all operations; they share one model thread, so each waits for all.
        queue_limit: Rows waiting at most, over all operations.
        max_queue_s: Predicted wait behind the rows of others, over which requests are refused.
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
    ) -> None:
        self.queues = queues
        self._queue_limit = queue_limit
        self._max_queue_s = max_queue_s
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

    def wait_s(self, now: float, rows: int = 1) -> float:
        """How long a request of so many rows, of a client with none, would wait for others."""
        return self._before(now, rows)[1]

    def retry_after_s(self, now: float) -> int:
        """Whole seconds, at least 1, until all that is queued should be done."""
        return max(1, math.ceil(self.wait_s(now, self.waiting + 1)))

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
        waiting, seconds = self._before(now, rows, client)
        if waiting + rows > self._queue_limit or self._is_over_share(waiting, rows, client):
            raise self._refusal("queue", 0.0, 0.0, now, client)
        if idle:
            return
        if seconds > self._max_queue_s:
            raise self._refusal("wait", seconds, self._max_queue_s, now, client)
        seconds += self.queues[key].service_rate.seconds(rows)
        if seconds > left_s:
            raise self._refusal("deadline", seconds, left_s, now, client)

    def _before(self, now: float, rows: int, client: Hashable = None) -> tuple[int, float]:
        """The rows that wait, and the seconds for which they hold up a request of so many rows."""
        waiting, seconds = 0, max(0.0, self.call_ends - now)
        for queue in self.queues.values():
            if queued := queue.foreground.waiting:
                waiting += queued
                before = queue.foreground.rows_before(rows, client)
                seconds += queue.service_rate.seconds(before)
        return waiting, seconds

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
