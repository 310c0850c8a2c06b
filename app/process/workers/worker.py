"""What the supervisor knows of a worker, and when the next one may start."""

from dataclasses import dataclass

from app.process.workers.balance import Load
from app.process.workers.channel import SupervisorChannel
from app.process.workers.generation import Generation

_STEADY_S = 30  # a worker that lived so long did not fail because of its start
_MAX_DELAY_S = 10.0


class Backoff:
    """When the next worker may start: later and later while workers fail soon after their start.

    ``next_start`` is a time on the clock of ``failed``; 0 = at once.
    """

    def __init__(self) -> None:
        self.next_start = 0.0
        self._failures = 0  # since a worker was steady

    def failed(self, started: float, now: float) -> None:
        """A worker failed.

        Args:
            started: When it was forked.
            now: When its failure became known; it may drain for long after that.
        """
        self._failures = 1 if now - started > _STEADY_S else self._failures + 1
        self.next_start = now + min(_MAX_DELAY_S, 0.1 * 2 ** min(self._failures - 1, 10))

    def could_not_fork(self, now: float) -> None:
        self.next_start = now + _MAX_DELAY_S


def places(workers: int) -> int:
    """How many of so many workers may live at a time, those among them that are being replaced and
    have not ended yet."""
    return 2 * workers + 2


@dataclass(eq=False, kw_only=True)
class Worker(Load):
    """What the supervisor knows of a worker; times are monotonic, in s."""

    pid: int
    place: int  # no other worker has it as long as this one lives
    channel: SupervisorChannel
    started: float
    generation: Generation | None  # that it was forked from; None = the supervisor itself
    ready: bool = False  # takes connections
    ending: bool = False  # was sent SIGTERM
    kill_at: float = float("inf")
