"""The queues of all lanes, how long what is in them will take, and who is let in."""

import math
from collections.abc import Hashable, Mapping
from typing import Generic, Literal, NamedTuple, TypeVar

from app.batching.fair_queue import Shares, Ticket
from app.batching.service_rate import ServiceRate

Name = TypeVar("Name", bound=Hashable)
T = TypeVar("T", bound=Ticket)

TILES = 4  # a batch has room for the turns of so many large requests
_BESIDE_S = 1.0  # who asked so long ago still counts as there


class OverloadError(Exception):
    """The request would wait too long; nothing of it is run.

    Args:
        reason: ``queue``: there is no room; ``wait``: the predicted wait is over what is allowed;
            ``deadline``: its results are predicted for after its deadline.
        predicted_s, allowed_s: What was predicted, and the limit (for ``queue`` of no meaning).
        retry_after_s: Whole seconds, at least 1, until all that is queued should be done.
        own_rows: What the client has queued, where that is why: others ask too, and it has more
            than an equal share of what waits. None = it is not.
    """

    def __init__(
        self,
        reason: Literal["queue", "wait", "deadline"],
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


class QueueConfig(NamedTuple):
    """What is known of a lane before its first call."""

    max_batch: int  # rows of one call at most
    rate: float = 0.0  # rows a second in full calls; 0 = unknown
    inline_rows: int = (
        0  # rows up to which a call is so short, and so sure to end, that who asks waits
    )


class Lane(Generic[T]):
    """One lane's queues, and how fast they move."""

    def __init__(self, start: QueueConfig) -> None:
        self.max_batch = start.max_batch
        self.tile = max(1, self.max_batch // TILES)  # rows of one turn
        self.queue: Shares[T] = Shares(self.tile)
        # Goes after the other, and counts for no limit.
        self.background: Shares[T] = Shares(self.tile)
        self.service_rate = ServiceRate(start.max_batch, start.rate)
        self.inline_rows = start.inline_rows


class Admission(Generic[Name, T]):
    """See the module. Times are seconds on the caller's clock.

    Args:
        lanes: All that there are.
        queue_limit: Rows waiting at most, over all lanes.
        max_queue_s: Predicted wait behind the rows of others from which on requests are refused.
        max_share: Of the room that others leave in the queue, how much one client may fill. Some
            room is then free whoever floods it, and several get as much each (dynamic thresholds:
            Choudhury & Hahne 1998). Who has nothing queued may fill all of it.
    """

    def __init__(
        self,
        lanes: Mapping[Name, QueueConfig],
        queue_limit: int,
        max_queue_s: float,
        max_share: float = 1.0,
    ) -> None:
        self._queue_limit = queue_limit
        self._max_queue_s = max_queue_s
        self._max_share = max_share
        # Who asked last, when, and when somebody else last did.
        self._latest: Hashable = None
        self._latest_at = self._other_at = -math.inf
        self._lanes = {name: Lane[T](start) for name, start in lanes.items()}
        self.call_ends = -math.inf  # when the running call should; in the past = none is running

    def lane(self, name: Name) -> Lane[T]:
        """One of the lanes."""
        return self._lanes[name]

    def occupied(self) -> list[tuple[Name, Shares[T]]]:
        """The lanes in which something waits."""
        return [(n, lane.queue) for n, lane in self._lanes.items() if lane.queue.waiting]

    def in_background(self) -> list[tuple[Name, Shares[T]]]:
        """The lanes in which something waits in the background."""
        return [(n, lane.background) for n, lane in self._lanes.items() if lane.background.waiting]

    @property
    def waiting(self) -> int:
        """Rows in all queues, those in the background not counted."""
        return sum(lane.queue.waiting for lane in self._lanes.values())

    @property
    def waiting_in_background(self) -> int:
        """Rows in the background of all lanes."""
        return sum(lane.background.waiting for lane in self._lanes.values())

    @property
    def rates(self) -> dict[Name, float]:
        """Rows a second that each lane is taken to do; 0 = not known yet."""
        return {name: lane.service_rate.rate for name, lane in self._lanes.items()}

    def wait_s(self, now: float, rows: int = 1) -> float:
        """How long a request of so many rows would wait behind the rows of others."""
        return self._ahead(now, rows)[1]

    def _ahead(self, now: float, rows: int, client: Hashable = None) -> tuple[int, float]:
        """What waits, and how long it would hold up a request of so many rows."""
        waiting, seconds = 0, max(0.0, self.call_ends - now)
        for lane in self._lanes.values():
            if queued := lane.queue.waiting:
                waiting += queued
                seconds += lane.service_rate.seconds(lane.queue.ahead_of(rows, client))
        return waiting, seconds

    def retry_after_s(self, now: float) -> int:
        """Whole seconds, at least 1, until all that is queued should be done."""
        return max(1, math.ceil(self.wait_s(now, self.waiting + 1)))

    def check(
        self,
        name: Name,
        rows: int,
        now: float,
        left_s: float,
        idle: bool,
        client: Hashable = None,
    ) -> None:
        """Refuse what cannot be answered in time.

        Args:
            name: The lane.
            rows: Of the new request.
            now: The time.
            left_s: The time until its deadline.
            idle: Whether nothing is queued or running. An idle model always tries: otherwise a
                rate once learnt too low would stay for ever.
            client: Whose it is; None = nobody's in particular.

        Raises:
            OverloadError
        """
        if client is not None:
            self._note(client, now)
        waiting, seconds = self._ahead(now, rows, client)
        if waiting + rows > self._queue_limit or self._is_over(waiting, rows, client):
            raise self._refusal("queue", 0.0, 0.0, now, client)
        if idle:
            return
        if seconds > self._max_queue_s:
            raise self._refusal("wait", seconds, self._max_queue_s, now, client)
        seconds += self.lane(name).service_rate.seconds(rows)
        if seconds > left_s:
            raise self._refusal("deadline", seconds, left_s, now, client)

    def _note(self, client: Hashable, now: float) -> None:
        """Remember that a client asks."""
        if client != self._latest:
            self._latest, self._other_at = client, self._latest_at
        self._latest_at = now

    def _of(self, client: Hashable) -> int:
        """Rows that a client has in all queues."""
        return sum(lane.queue.of(client) for lane in self._lanes.values() if lane.queue.waiting)

    def _is_over(self, waiting: int, rows: int, client: Hashable) -> bool:
        """Whether so many rows more would be over a client's share of the queue."""
        if self._max_share == 1 or client is None:
            return False
        if waiting + rows <= self._max_share * self._queue_limit:
            return False  # even if all that waits were its own
        own = self._of(client)
        others = waiting - own
        return own > 0 and own + rows > self._max_share * (self._queue_limit - others)

    def _refusal(
        self,
        reason: Literal["queue", "wait", "deadline"],
        predicted_s: float,
        allowed_s: float,
        now: float,
        client: Hashable,
    ) -> OverloadError:
        own = None
        if client is not None and now - self._other_at < _BESIDE_S:  # it is the latest
            clients = max(2, *(lane.queue.clients for lane in self._lanes.values()))
            own = self._of(client)
            own = own if own * clients > self.waiting else None
        return OverloadError(reason, predicted_s, allowed_s, self.retry_after_s(now), own)
