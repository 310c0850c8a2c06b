"""One request in the batcher, from its arrival to its answer."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from app.turns import Ticket

Row = TypeVar("Row")
Result = TypeVar("Result")


class DeadlineError(Exception):
    """The request's deadline passed before all of its results were there."""


class LeftError(Exception):
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
class Pending(Ticket, Generic[Row, Result]):
    """A request that was accepted; times are seconds on the batcher's clock."""

    rows: Sequence[Row]
    done: "asyncio.Future[None]"
    arrived: float
    deadline: float
    due: float  # when its batch stops waiting for more
    left: Callable[[], bool] | None = None  # whether its caller has gone away
    background: bool = False  # goes after all that is not
    results: list[Result] = field(default_factory=list)
    queue_s: float = 0.0
    run_s: float = 0.0
    own_rows: int = 0
    batch_rows: int = 0

    @property
    def timing(self) -> Timing:
        """Where the time went, once it is done."""
        return Timing(self.queue_s, self.run_s, self.own_rows, self.batch_rows)

    def fail(self, error: Exception) -> None:
        """End it with an error, unless it has ended."""
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # read: whoever is cancelled in this moment would leave it unread

    def expire(self) -> None:
        """End it because its deadline has passed."""
        self.fail(DeadlineError("the deadline passed"))

    def is_over(self, now: float) -> bool:
        """Whether computing for it is of no use any more."""
        if self.deadline <= now:
            self.expire()
        elif self.left and not self.done.done() and self.left():
            self.fail(LeftError("the caller has gone away"))
        return self.done.done()

    def give(self, part: Sequence[Result | Exception], seconds: float, batch_rows: int) -> None:
        """Its part of a batch. The last part ends it, and so does a failed row."""
        if self.done.done():
            return
        self.run_s += seconds
        self.own_rows, self.batch_rows = len(part), batch_rows
        for result in part:
            if isinstance(result, Exception):
                self.fail(result)
                return
            self.results.append(result)
        if len(self.results) == len(self.rows):
            self.done.set_result(None)
