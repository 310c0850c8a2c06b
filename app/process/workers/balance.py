"""Which worker gets the next connection."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

SILENT_S = 2.5  # without a message: a worker sends a heartbeat each second
_MAX_CATCH_UP = 16  # connections within a second that one worker may get more than another


@dataclass(eq=False, kw_only=True)
class Load:
    """The connections of one worker, as far as the supervisor knows; times on one clock, in s."""

    heard: float  # when its last message came
    open: int = 0  # connections handed over and not reported closed
    last: int = 0  # number of the last one, counted over all workers
    recent: int = 0  # connections handed over within ``second``
    second: int = 0  # the whole second of the last call of ``least_connections``

    def add(self, number: int) -> None:
        """A connection was handed over, the ``number``th of all."""
        self.open, self.last, self.recent = self.open + 1, number, self.recent + 1


L = TypeVar("L", bound=Load)


def least_connections(workers: Iterable[L], now: float) -> list[L]:
    """Workers in the order in which the next connection is offered: fewest open ones first.

    Within one second no worker gets over _MAX_CATCH_UP more than another that sends messages. When
    thousands of connections end, workers report it at different times; without this bound the first
    to report would get all that come just then, and would keep them.

    Args:
        workers: Those that take connections.
        now: On the clock of ``Load.heard``.
    """
    workers = list(workers)
    for worker in workers:
        if worker.second != int(now):
            worker.second, worker.recent = int(now), 0
    fewest = min((worker.open - worker.recent for worker in workers), default=0)

    def position(worker: L) -> tuple[int, int]:
        surplus = worker.open - worker.recent - fewest  # it had before this second
        if now - worker.heard < SILENT_S:  # a silent one does not report what ends
            surplus = min(surplus, _MAX_CATCH_UP)
        return worker.recent + surplus, worker.last

    return sorted(workers, key=position)
