"""The thread that watches over calls for which the event loop stands still."""

import itertools
import threading
from collections.abc import Iterator

from app.process.watchdog import start_watchdog

MOST_S = 0.05
LOOKS = 10  # in that time


def given_up_after(seen: Iterator[float | None]) -> list[float | None]:
    """What was seen until the watch gave up; the last of ``seen`` ends the test."""
    looks: list[float | None] = []
    ended = threading.Event()

    def since() -> float | None:
        looks.append(next(seen))
        return looks[-1]

    start_watchdog(since, MOST_S, ended.set)
    assert ended.wait(10)
    return looks


def test_one_call_that_does_not_end_is_given_up() -> None:
    assert given_up_after(itertools.repeat(7.0)) == [7.0] * (LOOKS + 1)


def test_many_calls_and_pauses_are_not() -> None:
    """Each of them is seen for nearly as long as one may take."""
    calls = [[float(call)] * LOOKS + [None] * (call % 2) for call in range(5)]
    before = list(itertools.chain.from_iterable(calls))
    looks = given_up_after(itertools.chain(before, itertools.repeat(99.0)))
    assert looks == before + [99.0] * (LOOKS + 1)
