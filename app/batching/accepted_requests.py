"""The requests that were accepted and have not ended; each of them ends once.

A request ends by its results, by an error, at its deadline, or because its caller withdraws it.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from typing import Generic

from app.batching.admission import Key
from app.batching.operation_queue import OperationQueue
from app.batching.scheduler import Result, Row
from app.batching.ticket import (
    BatchRequest,
    ClientDisconnectedError,
    ClosedError,
    DeadlineError,
    HungError,
)

log = logging.getLogger(__name__)

# Why rows of an accepted request never reached the model; any other error: another row failed.
_DROP_REASONS: dict[type[BaseException], str] = {
    asyncio.CancelledError: "left",
    ClientDisconnectedError: "left",
    DeadlineError: "expired",
    HungError: "stopped",
    ClosedError: "stopped",
}


class AcceptedRequests(Generic[Key, Row, Result]):
    """See the module. Used on one event loop.

    Args:
        queues: Where their rows wait, by operation.
        on_end: Called for each request that ends.
        on_drop: As in ``Batcher``.
        clock: Seconds, never backwards.
    """

    def __init__(
        self,
        queues: Mapping[Key, OperationQueue[BatchRequest[Row, Result]]],
        on_end: Callable[[], None],
        on_drop: Callable[[Key, int, str], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self._queues = queues
        self._on_end = on_end
        self._on_drop = on_drop
        self._clock = clock
        self._requests: set[BatchRequest[Row, Result]] = set()
        self._in_background = 0  # of these
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf  # not later than the earliest deadline

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def in_foreground(self) -> int:
        """How many are not in the background."""
        return len(self._requests) - self._in_background

    def add(self, request: BatchRequest[Row, Result], now: float) -> None:
        """A request is accepted."""
        self._requests.add(request)
        self._in_background += request.background
        self._watch(request.deadline, now)

    def failed(self, request: BatchRequest[Row, Result]) -> None:
        """An error ended a request, perhaps while a queue was handing out rows: deliver later."""
        asyncio.get_running_loop().call_soon(self.deliver, [request])

    def deliver(self, requests: list[BatchRequest[Row, Result]]) -> None:
        """Call those who wait for requests that have ended."""
        for request in requests:
            self._remove(request, request.error)
            notify(request.on_end, request)

    def withdraw(self, request: BatchRequest[Row, Result], error: BaseException) -> None:
        """Its caller gave a request up, unless it has ended."""
        if not request.ended:
            request.ended = True
            self._remove(request, error)

    def fail_all(self, error: type[Exception], detail: str) -> None:
        """End every request with an error."""
        for request in self._requests:
            request.fail(error(detail))

    def stop_timer(self) -> None:
        """End no request at its deadline any more."""
        if self._timer:
            self._timer.cancel()

    def _remove(self, request: BatchRequest[Row, Result], error: BaseException | None) -> None:
        self._on_end()
        if error:
            key: Key = request.key  # type: ignore[assignment]
            if request.waiting:
                reason = _DROP_REASONS.get(type(error), "failed")
                notify(self._on_drop, key, request.waiting, reason)
            self._queues[key].remove(request)
        self._requests.discard(request)
        self._in_background -= request.background

    def _watch(self, deadline: float, now: float) -> None:
        """See to it that the request of this deadline ends by then.

        One timer for all: most requests have the same long limit and are answered in a hundredth
        of it, so a timer for each would be set and cancelled for nothing.
        """
        if deadline < self._timer_at:
            self.stop_timer()
            self._timer_at = deadline
            self._timer = asyncio.get_running_loop().call_later(deadline - now, self._expire)

    def _expire(self) -> None:
        """End the requests whose deadlines have passed, and watch the others."""
        self._timer_at = math.inf
        now = self._clock()
        for request in list(self._requests):
            if request.deadline <= now:
                request.expire()
            else:
                self._watch(request.deadline, now)


def notify(observer: Callable[..., None] | None, *what: object) -> None:
    """Call an observer, which must not stop the service."""
    if observer:
        try:
            observer(*what)
        except Exception:
            log.exception("an observer of the batcher failed")
