"""One request in the batcher, from its arrival to its answer."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from app.batching.fair_queue import Ticket

Row = TypeVar("Row")
Result = TypeVar("Result")


class DeadlineError(Exception):
    """The request's deadline passed before all of its results were there."""


class ClientDisconnectedError(Exception):
    """Nobody waits for the results any more."""


class HungError(Exception):
    """A call of the model has not returned for too long."""


class ClosedError(Exception):
    """The batcher takes no more work."""


class Timing(NamedTuple):
    """Where a request's time went; for a request cut in pieces, sums and the last batch."""

    queue_s: float  # from arrival until its first batch was formed
    run_s: float  # in calls of the model that it shared
    own_rows: int  # its rows in the last of these calls
    batch_rows: int  # all rows in that call


@dataclass(eq=False, kw_only=True, slots=True)
class BatchRequest(Ticket, Generic[Row, Result]):
    """A request that was accepted; times are seconds on the batcher's clock."""

    rows: Sequence[Row]
    lane: Hashable
    # Called once, when it has failed. That it has succeeded, ``give`` tells.
    failed: "Callable[[BatchRequest[Row, Result]], None]"
    then: "Callable[[BatchRequest[Row, Result]], None]"  # who waits for it
    arrived: float
    deadline: float
    due: float  # when its batch stops waiting for more
    left: Callable[[], bool] | None = None  # whether its caller has gone away
    background: bool = False  # goes after all that is not
    ended: bool = False  # with its results, with an error, or because its caller gave it up
    error: Exception | None = None
    results: list[Result] = field(default_factory=list)
    queue_s: float = 0.0
    run_s: float = 0.0
    own_rows: int = 0
    batch_rows: int = 0

    @property
    def timing(self) -> Timing:
        """Where the time went, once it is done."""
        return Timing(self.queue_s, self.run_s, self.own_rows, self.batch_rows)

    def outcome(self) -> tuple[list[Result], Timing]:
        """The results and where the time went, once it has ended.

        Raises:
            Exception: it has failed.
        """
        if self.error:
            raise self.error
        return self.results, self.timing

    def fail(self, error: Exception) -> None:
        """End it with an error, unless it has ended."""
        if not self.ended:
            self.ended, self.error = True, error
            self.failed(self)

    def expire(self) -> None:
        """End it because its deadline has passed."""
        self.fail(DeadlineError("the deadline passed"))

    def is_over(self, now: float) -> bool:
        """Whether computing for it is of no use any more."""
        if self.deadline <= now:
            self.expire()
        elif self.left and not self.ended and self.left():
            self.fail(ClientDisconnectedError("the caller has gone away"))
        return self.ended

    def give(self, part: Sequence[Result | Exception], seconds: float, batch_rows: int) -> bool:
        """Its part of a batch. The last part ends it, and then this is true; a failed row fails
        it."""
        if self.ended:
            return False
        self.run_s += seconds
        self.own_rows, self.batch_rows = len(part), batch_rows
        for result in part:
            if isinstance(result, Exception):
                self.fail(result)
                return False
            self.results.append(result)
        self.ended = len(self.results) == len(self.rows)
        return self.ended
