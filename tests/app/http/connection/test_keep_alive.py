"""Idle connections expire in time, whatever comes and goes meanwhile; on a clock of our own."""

import asyncio
import heapq
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.connection.keep_alive import KeepAlive


class Loop:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self.timers, (self.now + seconds, self._count, lambda: callback(*args)))

    def until(self, now: float) -> None:
        while self.timers and self.timers[0][0] <= now:
            self.now, _, callback = heapq.heappop(self.timers)
            callback()
        self.now = now


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.25, 1.0, 2.5])), max_size=60))
def test_each_connection_expires_when_its_time_is_up_and_never_while_it_is_busy(
    steps: list[tuple[int, float]],
) -> None:
    loop = Loop()
    expired: list[tuple[int, float]] = []
    idle: KeepAlive[int] = KeepAlive(2.0, lambda one: expired.append((one, loop.now)))
    since: dict[int, float] = {}
    expected: list[tuple[int, float]] = []

    def move(to: float) -> None:
        for one, began in sorted(since.items(), key=lambda item: item[1]):
            if began + 2.0 <= to:
                expected.append((one, began + 2.0))
                del since[one]
        loop.until(to)

    for one, seconds in steps:
        move(loop.now + seconds)
        assert idle.since(one) == since.get(one)
        if one in since:
            del since[one]
            idle.remove(one)
        else:
            since[one] = loop.now
            idle.add(one, cast(asyncio.AbstractEventLoop, loop))
        idle.remove(99)  # who does not wait
        assert len(loop.timers) <= 1
    move(loop.now + 10)
    assert sorted(expired, key=lambda t: t[1]) == expected
    assert not loop.timers


def test_a_failure_of_one_leaves_the_timer_for_the_others() -> None:
    loop = Loop()
    expired: list[str] = []

    def expire(one: str) -> None:
        if one == "bad":
            raise RuntimeError("closed already")
        expired.append(one)

    idle: KeepAlive[str] = KeepAlive(2.0, expire)
    for one in ("bad", "good"):
        idle.add(one, cast(asyncio.AbstractEventLoop, loop))
    with pytest.raises(RuntimeError):
        loop.until(2.0)
    loop.until(3.0)
    assert expired == ["good"]
