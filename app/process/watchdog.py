"""Watches over calls for which an event loop stands still, from a thread of its own."""

import math
import threading
import time
from collections.abc import Callable

_LOOKS = 10  # at least, while one call lasts


def watch(since: Callable[[], float | None], most_s: float, give_up: Callable[[], None]) -> None:
    """Begin to watch; until the process ends.

    Looks are counted, and not the time of a call: while the whole process was stopped, or its
    machine, no look was made either.

    Args:
        since: When the call began that runs now; None = none does.
        most_s: How long it may take; it is noticed up to a tenth of that later, or a second.
        give_up: Called once, in the thread that watches, when one has taken longer.
    """
    every_s = min(1.0, most_s / _LOOKS)
    looks = math.ceil(most_s / every_s)

    def look() -> None:
        seen, times = None, 0
        while times < looks:
            time.sleep(every_s)
            began = since()
            times = times + 1 if began is not None and began == seen else 0
            seen = began
        give_up()

    threading.Thread(target=look, name="watch", daemon=True).start()
