"""How long queued rows will take: a rate measured in the calls of the model."""

_WEIGHT = 0.2  # of the newest call: half of what was measured before is forgotten in three calls


class ServiceRate:
    """Rows a second of one operation, an exponentially weighted mean over its calls.

    The rate is that of full calls, because full calls serve a queue that is long enough to matter.
    A small call shows only that a full one is at least as fast, so it can raise the rate and not
    lower it. Otherwise an hour of single rows would teach that 64 take 64 times as long.

    Args:
        full: Rows of a full call.
        rate: Rows a second to begin with, as measured at start-up; 0 = unknown, and no wait is
            predicted before the first call.
    """

    def __init__(self, full: int, rate: float = 0.0) -> None:
        self.rate = rate
        self._full = full

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from one call."""
        rate = rows / max(seconds, 1e-9)
        if not self.rate:
            self.rate = rate
        elif rate > self.rate or 2 * rows >= self._full:
            self.rate += _WEIGHT * (rate - self.rate)

    def seconds(self, rows: int) -> float:
        """How long so many rows should take; 0 while nothing is known."""
        return rows / self.rate if self.rate else 0.0
