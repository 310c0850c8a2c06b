"""A line on the terminal that shows how much of a file has arrived."""

import os
import sys
import time

from genserve.download import Progress

_WIDTH = 24  # characters of the bar itself
_INTERVAL_S = 0.1


class ProgressBar:
    """Draws on standard error when called with a ``Progress``.

    Args:
        name: Of the file.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: tuple[float, int] | None = None  # time and bytes of the first call
        self._next_s = 0.0

    def __call__(self, progress: Progress) -> None:
        """Draw it, at most every 0.1 s."""
        now = time.monotonic()
        if self._first is None or progress.bytes < self._first[1]:
            self._first = now, progress.bytes
        if now < self._next_s:
            return
        self._next_s = now + _INTERVAL_S
        began, had = self._first
        rate = (progress.bytes - had) / (now - began) if now > began else 0.0
        self._draw(progress, f"{megabytes(rate)}/s" if rate else "waiting")

    def _draw(self, progress: Progress, rate: str) -> None:
        full = _WIDTH * progress.images // max(progress.n, 1)
        bar = "#" * full + "." * (_WIDTH - full)
        line = (
            f"{self._name} [{bar}] {progress.images:,} of {progress.n:,}, "
            f"{megabytes(progress.bytes)}, {rate}"
        )
        try:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns
        except OSError:
            columns = 80
        print(f"\r{line[: columns - 1]}\x1b[K", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if self._first is not None:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def megabytes(size: float) -> str:
    """Bytes as MB with one decimal."""
    return f"{size / 1e6:.1f} MB"
