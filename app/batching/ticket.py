"""One request in the batcher, from its arrival to its results."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from app.batching.fair_queue import Ticket

Row = TypeVar("Row")
Result = TypeVar("Result")


class DeadlineError(Exception):
    """The request's deadline passed before all of its results were there."""


class ClientDisconnectedError(Exception):
    """The client has gone away, so nobody waits for the results."""


class HungError(Exception):
    """A call of the model has not returned for too long."""


class ClosedError(Exception):
    """The batcher takes no more requests."""


class Timing(NamedTuple):
    """Where a request's time went. For one cut into pieces: sums, and rows of the last batch."""

    queue_s: float  # from arrival until its first batch was formed
    run_s: float  # in the calls of the model that it was part of
    own_rows: int  # its rows in the last of these calls
    batch_rows: int  # all rows in that call


@dataclass(eq=False, kw_only=True, slots=True)
class BatchRequest(Ticket, Generic[Row, Result]):
    """A request that was accepted. Times are seconds on the batcher's clock."""

    key: Hashable  # of the operation
    rows: Sequence[Row]
    arrived: float
    deadline: float
    due: float  # when its batch stops waiting for more
    client_disconnected: Callable[[], bool] | None = None  # whether its client has gone away
    trace: object = None  # handed to ``on_traced``
    on_fail: "Callable[[BatchRequest[Row, Result]], None]"  # called once, when an error ends it
    on_end: "Callable[[BatchRequest[Row, Result]], None]"  # for the caller: results or an error
    ended: bool = False  # by its results, by an error, or because its caller withdrew it
    error: Exception | None = None
    results: list[Result] = field(default_factory=list)
    queue_s: float = 0.0
    run_s: float = 0.0
    own_rows: int = 0
    batch_rows: int = 0

    @property
    def timing(self) -> Timing:
        """Where the time went, once it has ended."""
        return Timing(self.queue_s, self.run_s, self.own_rows, self.batch_rows)

    def outcome(self) -> tuple[list[Result], Timing]:
        """The results and where the time went, once it has ended. To be called once.

        Raises:
            Exception: what ended it instead.
        """
        if self.error is None:
            return self.results, self.timing
        # Nothing keeps the error that its traceback holds: neither this request nor this frame.
        # All of both would wait for the garbage collector, with the body of the HTTP request.
        error, self.error = self.error, None
        try:
            raise error
        finally:
            del error

    def fail(self, error: Exception) -> None:
        """End it with an error, unless it has ended."""
        if not self.ended:
            self.ended, self.error = True, error
            self.on_fail(self)

    def expire(self) -> None:
        """End it because its deadline has passed."""
        self.fail(DeadlineError("the deadline passed"))

    def end_if_obsolete(self, now: float) -> bool:
        """End it if its deadline has passed or its client has gone; whether it has ended."""
        if self.deadline <= now:
            self.expire()
        elif self.client_disconnected and not self.ended and self.client_disconnected():
            self.fail(ClientDisconnectedError("the client has gone away"))
        return self.ended

    def add_results(
        self, part: Sequence[Result | Exception], seconds: float, batch_rows: int
    ) -> bool:
        """Add the results of its part of a batch; an exception among them ends it.

        Returns:
            Whether these were the last, which end it.
        """
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
