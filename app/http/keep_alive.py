"""Connections between two requests, and when each has been so for too long."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Idle(Generic[T]):
    """Who waits since when, with one timer for all: one each would be set and cancelled again with
    every answer.

    Args:
        seconds: How long one may wait.
        late: Called with each that has waited for so long, which then waits no more.
    """

    def __init__(self, seconds: float, late: Callable[[T], None]) -> None:
        self.seconds = seconds
        self._late = late
        # In the order of the times; the first of a dict is slow to find where many went before it.
        self._since: OrderedDict[T, float] = OrderedDict()
        self._rings = False

    def add(self, one: T, loop: asyncio.AbstractEventLoop) -> None:
        """It begins to wait now; it must not wait yet."""
        self._since[one] = loop.time()
        if not self._rings:
            self._rings = True
            loop.call_later(self.seconds, self._ring, loop)

    def remove(self, one: T) -> None:
        """It waits no more, if it did."""
        self._since.pop(one, None)

    def since(self, one: T) -> float | None:
        """When it began to wait, on the loop's clock; None = it does not."""
        return self._since.get(one)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        latest = loop.time() - self.seconds
        try:
            while self._since:
                one, since = next(iter(self._since.items()))
                if since > latest:
                    break
                del self._since[one]
                self._late(one)
        finally:
            self._rings = bool(self._since)
            if self._rings:
                due = next(iter(self._since.values())) + self.seconds
                loop.call_later(max(0.0, due - loop.time()), self._ring, loop)
