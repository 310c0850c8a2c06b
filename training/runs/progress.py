"""Progress of a long computation: a bar on a terminal, lines in a log file."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS_BETWEEN_LINES = 30.0  # where stderr is not a terminal


@contextmanager
def progress_of(total_steps: int, done: int, batch_images: int) -> Iterator[Any]:
    """A tqdm bar on a terminal; elsewhere, such as in a log file, a line every half minute.

    Args:
        total_steps, done: Steps in all, and those of earlier starts.
        batch_images: Images per step; rates are in images per second.
    """
    from tqdm import tqdm  # optional package: imported late, so that earlier errors come first

    if sys.stderr.isatty():
        with tqdm(
            total=total_steps,
            initial=done,
            unit=" images",
            unit_scale=batch_images,
            dynamic_ncols=True,
            mininterval=0.5,
        ) as bar:
            yield bar
    else:
        yield _Lines(total_steps, done, batch_images, tqdm.format_interval)


class _Lines:
    """The part of tqdm's interface that the loops use, as whole lines; a bar writes only \\r."""

    def __init__(self, total: int, done: int, batch_images: int, interval: Any) -> None:
        self.total, self.n, self.batch_images, self.interval = total, done, batch_images, interval
        self.first, self.started = done, time.monotonic()
        self.last = self.started
        self.postfix = ""
        self.silent = True

    def update(self, steps: int = 1) -> None:
        self.n += steps
        # The first losses are written at once.
        due = time.monotonic() - self.last >= SECONDS_BETWEEN_LINES
        if due or (self.silent and self.postfix):
            self.silent = False
            self.last = time.monotonic()
            rate = (self.n - self.first) / (self.last - self.started)
            print(
                f"step {self.n}/{self.total} ({self.n / self.total:.0%}), "
                f"{self.n * self.batch_images:,} images, {rate * self.batch_images:.0f} images/s, "
                f"ETA {self.interval((self.total - self.n) / rate)}"
                f"{self.postfix and ', '}{self.postfix}",
                file=sys.stderr,
                flush=True,
            )

    def set_postfix_str(self, text: str, _refresh: bool) -> None:
        self.postfix = text
