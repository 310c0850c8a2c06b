"""The queues of all lanes, how long what is in them will take, and who is let in."""

import math
from collections.abc import Hashable, Mapping
from typing import Generic, Literal, NamedTuple, TypeVar

from app.pace import Pace
from app.turns import Ticket, Turns

Name = TypeVar("Name", bound=Hashable)
T = TypeVar("T", bound=Ticket)

TILES = 4  # a batch has room for the turns of so many large requests


class OverloadError(Exception):
    """The request would wait too long; nothing of it is run.

    Args:
        reason: ``queue``: there is no room; ``wait``: the predicted wait is over what is allowed;
            ``deadline``: its results are predicted for after its deadline.
        predicted_s, allowed_s: What was predicted, and the limit (for ``queue`` of no meaning).
        retry_after_s: Whole seconds, at least 1, until all that is queued should be done.
    """

    def __init__(
        self,
        reason: Literal["queue", "wait", "deadline"],
        predicted_s: float,
        allowed_s: float,
        retry_after_s: int,
    ) -> None:
        super().__init__(f"{reason}: {predicted_s:.3f} s predicted, {allowed_s:.3f} s allowed")
        self.reason = reason
        self.predicted_s, self.allowed_s = predicted_s, allowed_s
        self.retry_after_s = retry_after_s


class Start(NamedTuple):
    """What is known of a lane before its first call."""

    max_batch: int  # rows of one call at most
    rate: float = 0.0  # rows a second in full calls; 0 = unknown


class Lane(Generic[T]):
    """One lane's queues, and how fast they move."""

    def __init__(self, start: Start) -> None:
        self.max_batch = start.max_batch
        self.tile = max(1, self.max_batch // TILES)  # rows of one turn
        self.queue: Turns[T] = Turns(self.tile)
        # Goes after the other, and counts for no limit.
        self.background: Turns[T] = Turns(self.tile)
        self.pace = Pace(*start)


class Admission(Generic[Name, T]):
    """See the module. Times are seconds on the caller's clock.

    Args:
        lanes: All that there are.
        queue_limit: Rows waiting at most, over all lanes.
        max_queue_s: Predicted wait behind the rows of others from which on requests are refused.
    """

    def __init__(self, lanes: Mapping[Name, Start], queue_limit: int, max_queue_s: float) -> None:
        self._queue_limit = queue_limit
        self._max_queue_s = max_queue_s
        self._lanes = {name: Lane[T](start) for name, start in lanes.items()}
        self.call_ends = -math.inf  # when the running call should; in the past = none is running

    def lane(self, name: Name) -> Lane[T]:
        """One of the lanes."""
        return self._lanes[name]

    def occupied(self) -> list[tuple[Name, Turns[T]]]:
        """The lanes in which something waits."""
        return [(n, lane.queue) for n, lane in self._lanes.items() if lane.queue.waiting]

    def in_background(self) -> list[tuple[Name, Turns[T]]]:
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
        return {name: lane.pace.rate for name, lane in self._lanes.items()}

    def wait_s(self, now: float, rows: int = 1) -> float:
        """How long a request of so many rows would wait behind the rows of others."""
        return self._ahead(now, rows)[1]

    def _ahead(self, now: float, rows: int) -> tuple[int, float]:
        """What waits, and how long it would hold up a request of so many rows."""
        waiting, seconds = 0, max(0.0, self.call_ends - now)
        for lane in self._lanes.values():
            if queued := lane.queue.waiting:
                waiting += queued
                seconds += lane.pace.seconds(lane.queue.ahead_of(rows))
        return waiting, seconds

    def retry_after_s(self, now: float) -> int:
        """Whole seconds, at least 1, until all that is queued should be done."""
        return max(1, math.ceil(self.wait_s(now, self.waiting + 1)))

    def check(self, name: Name, rows: int, now: float, left_s: float, idle: bool) -> None:
        """Refuse what cannot be answered in time.

        Args:
            name: The lane.
            rows: Of the new request.
            now: The time.
            left_s: The time until its deadline.
            idle: Whether nothing is queued or running. An idle model always tries: otherwise a
                rate once learnt too low would stay for ever.

        Raises:
            OverloadError
        """
        waiting, seconds = self._ahead(now, rows)
        if waiting + rows > self._queue_limit:
            raise OverloadError("queue", 0.0, 0.0, self.retry_after_s(now))
        if idle:
            return
        if seconds > self._max_queue_s:
            raise OverloadError("wait", seconds, self._max_queue_s, self.retry_after_s(now))
        seconds += self.lane(name).pace.seconds(rows)
        if seconds > left_s:
            raise OverloadError("deadline", seconds, left_s, self.retry_after_s(now))
