"""Closes connections on which no next request has come in time."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class KeepAlive(Generic[T]):
    """Idle connections, with one timer for all: one each would be set and cancelled again with
    every response.

    Args:
        seconds: How long a connection may be idle.
        expire: Called with each that was idle for so long; it is removed before.
    """

    def __init__(self, seconds: float, expire: Callable[[T], None]) -> None:
        self.seconds = seconds
        self._expire = expire
        # By time. Not a dict, whose first key is slow to find after many before it were deleted.
        self._since: OrderedDict[T, float] = OrderedDict()
        self._timer_set = False

    def add(self, connection: T, loop: asyncio.AbstractEventLoop) -> None:
        """The connection is idle from now on; it must not be already."""
        self._since[connection] = loop.time()
        if not self._timer_set:
            self._timer_set = True
            loop.call_later(self.seconds, self._expire_due, loop)

    def remove(self, connection: T) -> None:
        """The connection is not idle any more, if it was."""
        self._since.pop(connection, None)

    def since(self, connection: T) -> float | None:
        """When the connection became idle, on the loop's clock; None = it is not idle."""
        return self._since.get(connection)

    def _expire_due(self, loop: asyncio.AbstractEventLoop) -> None:
        latest = loop.time() - self.seconds
        try:
            while self._since:
                connection, since = next(iter(self._since.items()))
                if since > latest:
                    break
                del self._since[connection]
                self._expire(connection)
        finally:  # whatever ``expire`` raised for one, the others are still to be closed
            self._timer_set = bool(self._since)
            if self._timer_set:
                due = next(iter(self._since.values())) + self.seconds
                loop.call_later(max(0.0, due - loop.time()), self._expire_due, loop)
