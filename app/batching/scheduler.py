"""Which operation gets the next call of the model, and which rows go into it.

An operation is *due* when its foreground fills a batch, or when one of its requests has waited as
long as a batch waits to fill. Of those that are due, the one whose first client has waited longest
for its turn goes next.

The background goes after all others. It gets what room a call has left, but at most a quantum, so
that it holds up nobody who shares the call. While nobody else waits it gets whole calls, which are
cut to a quantum where others have asked of late. And when it has been passed over MAX_PASSED_OVER
times in a row, the next call is for it, and has a quantum of it whatever else waits.
"""

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Generic, TypeVar

from app.batching.admission import Key
from app.batching.fair_queue import FairQueue
from app.batching.operation_queue import OperationQueue
from app.batching.ticket import BatchRequest

Row = TypeVar("Row")
Result = TypeVar("Result")

MAX_PASSED_OVER = 7  # calls in a row that leave out what waits in the background
QUIET_S = 1.0  # without other requests, until calls for the background alone are full ones

Piece = tuple[BatchRequest[Row, Result], Sequence[Row]]  # a request, and its rows of a batch


class Scheduler(Generic[Key, Row, Result]):
    """See the module. Times are seconds on the caller's clock.

    Args:
        queues: Of all operations.
        max_wait_s: How long a batch that is not full waits for more; 0 = not at all.
    """

    def __init__(
        self, queues: Mapping[Key, OperationQueue[BatchRequest[Row, Result]]], max_wait_s: float
    ) -> None:
        self._queues = queues
        self._max_wait_s = max_wait_s
        self._passed_over = 0  # calls without background rows, while some waited
        self._foreground_at = -math.inf  # when the last request came that is not background

    def add(self, request: BatchRequest[Row, Result], key: Key, now: float) -> None:
        """Queue a request."""
        self._queues[key].add(request, now)
        if not request.background:
            self._foreground_at = now

    def next_key(self, now: float, fill: bool) -> tuple[Key | None, float | None]:
        """The operation that gets the next call.

        Args:
            now: The time.
            fill: Whether batches wait to fill.

        Returns:
            The operation; None = no call is due. Then also the time until one will be; None =
            nothing is queued.
        """
        first = itemgetter(0)
        background = min(
            (
                (queue.background.turn_since, key)
                for key, queue in self._queues.items()
                if queue.background.waiting
            ),
            key=first,
            default=None,
        )
        if background and self._passed_over >= MAX_PASSED_OVER:
            return background[1], None
        due: list[tuple[float, Key]] = []
        soonest: float | None = None
        for key, queue in self._queues.items():
            foreground, left_s = queue.foreground, 0.0
            if not foreground.waiting:
                continue
            if self._max_wait_s and fill and foreground.waiting < queue.max_batch:
                left_s = min(request.due for request in foreground.tickets) - now
            if left_s <= 0:
                due.append((foreground.turn_since, key))
            else:
                soonest = left_s if soonest is None else min(soonest, left_s)
        if due:
            return min(due, key=first)[1], None
        return (background[1], None) if background else (None, soonest)

    def take(self, key: Key, now: float) -> list[Piece[Row, Result]]:
        """Take the next batch out of an operation's queue; empty if all its requests had ended."""
        queue = self._queues[key]
        owed = 0  # rows of the background that go before others
        if self._passed_over >= MAX_PASSED_OVER:
            owed = min(queue.quantum, queue.background.waiting)
        for_foreground = queue.foreground.waiting and not owed
        pieces = _take_rows(queue.foreground, queue.max_batch - owed, now)
        if for_foreground and not pieces:
            return []
        room = queue.max_batch - sum(len(rows) for _, rows in pieces)
        if pieces or now - self._foreground_at < QUIET_S:
            room = min(room, queue.quantum)
        background = _take_rows(queue.background, room, now)
        left_out = not background and any(q.background.waiting for q in self._queues.values())
        self._passed_over = self._passed_over + 1 if left_out else 0
        return pieces + background


def _take_rows(
    queue: FairQueue[BatchRequest[Row, Result]], room: int, now: float
) -> list[Piece[Row, Result]]:
    """Up to ``room`` rows of a queue; requests that have ended are taken out."""
    pieces: list[Piece[Row, Result]] = []
    for request, count in queue.take(room, now, lambda request: request.end_if_obsolete(now)):
        end = len(request.rows) - request.waiting
        if end == count:  # its first rows
            request.queue_s = now - request.arrived
        pieces.append((request, request.rows[end - count : end]))
    return pieces
