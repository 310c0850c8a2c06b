"""How a batch of one operation is cut into passes of the network, by the times that were measured.

A network runs in passes of a few sizes (``app.engines.probe``). A batch of any size is cut into
such passes, the last one padded, so that all of them together take the least time.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Costs = Sequence[tuple[int, float]]  # rows and seconds of a pass, for each size, smallest first

PASS_S = 30e-6  # what a pass costs besides the network, on one core of an EPYC
BATCH_S = 0.010  # of a batch by default: enough to spread a pass's fixed cost, and a short wait
INLINE_S = 0.005  # the same where the event loop itself makes the call, and stands still meanwhile
LEAST_ROWS = 8  # of the largest batch, however long they take
MAX_BATCH = 4096  # rows of a batch at most


class Pass(NamedTuple):
    """One call of the network for a part of a batch."""

    start: int  # its first row in the batch
    rows: int
    size: int  # rows after padding


class BatchPlan:
    """The passes of every batch of one operation, and how long they take.

    Args:
        costs: The sizes that may be used.
        max_batch: Rows of the largest batch; None = a power of two that takes at most BATCH_S, or
            INLINE_S where ``bounded``, but at least LEAST_ROWS.
        bounded: As ``Backend.bounded_time``: calls up to INLINE_S may be made on the event loop.

    ``inline_rows`` is the largest batch that may be: ``max_batch`` or what halving leaves of it;
    0 = none.
    """

    def __init__(self, costs: Costs, max_batch: int | None, bounded: bool) -> None:
        self.costs = list(costs)
        self.max_batch = max_batch or _rows_within(INLINE_S if bounded else BATCH_S, costs)
        self._sizes = first_sizes(costs, self.max_batch)
        self.inline_rows = self.max_batch if bounded else 0
        while self.inline_rows and self.seconds(self.inline_rows) > INLINE_S:
            self.inline_rows //= 2

    def passes(self, rows: int) -> Iterator[Pass]:
        """The passes of a batch, in order; of one over ``max_batch`` too."""
        start = 0
        while start < rows:
            size = self._sizes[min(rows - start, self.max_batch)]
            count = min(size, rows - start)
            yield Pass(start, count, size)
            start += count

    def seconds(self, rows: int) -> float:
        """What the passes of a batch took in the probe, together."""
        costs = dict(self.costs)
        return sum(costs[each.size] for each in self.passes(rows))


def first_sizes(costs: Costs, max_batch: int) -> list[int]:
    """The size of the first pass for each number of rows, so that all passes take the least time.

    Returns:
        ``max_batch`` + 1 sizes, by the number of rows; the one of 0 rows means nothing. What that
        pass leaves over is looked up again; a pass larger than what is left is padded.
    """
    sizes, total = [0], [0.0]
    for rows in range(1, max_batch + 1):
        seconds, size = min(
            (PASS_S + cost + total[max(0, rows - size)], size) for size, cost in costs
        )
        sizes.append(size)
        total.append(seconds)
    return sizes


def _rows_within(seconds: float, costs: Costs) -> int:
    """Rows that an operation does in this time, down to a power of two; LEAST_ROWS to
    MAX_BATCH."""
    row_s = min(s / size for size, s in costs)
    return int(min(MAX_BATCH, max(LEAST_ROWS, 2 ** int(math.log2(max(1, seconds / row_s))))))
