"""At most so many connections: an unused one makes room for a new one, else the new one is refused.

Unused are connections between two requests, and those whose first request has not come whole. They
cost an attacker nothing, so they must not keep others out. When all are in use, a new connection
may still ask for the service's health.
"""

import math
from collections.abc import Collection
from typing import Protocol

from app.errors import OverloadedError
from app.http.access import HEALTH


class Connection(Protocol):
    """What the limit needs of a connection."""

    def unused_since(self) -> float | None:
        """Time on the event loop's clock; None = it is in use."""

    def close(self) -> None:
        """Close it, at once."""


class ConnectionLimit:
    """Admits connections to one process.

    Looking at all connections for each new one would leave time for nothing else in a storm of
    them. So the unused ones are listed, the longest unused last, and the list is used up before
    they are looked at again.

    Args:
        maximum: Connections at a time.
        retry_s: Seconds before all are looked at again, after hardly any was found unused.
    """

    def __init__(self, maximum: int, retry_s: float = 0.05) -> None:
        self.maximum = maximum
        self._retry_s = retry_s
        self._unused: list[tuple[float, Connection]] = []  # with ``unused_since``, then
        self._next_look = -math.inf

    def admit(self, connections: Collection[Connection], new: Connection, now: float) -> bool:
        """Whether the new connection may make any request; closes another one if it has to.

        Args:
            connections: All, with the new one.
            new: Just opened.
            now: On the event loop's clock.
        """
        return len(connections) <= self.maximum or self._make_room(connections, new, now)

    def closed(self, connections: Collection[Connection]) -> None:
        """Forget the list once there is room; it would keep closed connections.

        Args:
            connections: Those that are left.
        """
        if len(connections) < self.maximum:
            self._unused.clear()

    def check(self, path: str) -> None:
        """Refuse a request on a connection that was not admitted.

        Raises:
            OverloadedError: it asks for something other than the service's health.
        """
        if path not in HEALTH:
            detail = f"all {self.maximum} connections of this process are in use"
            raise OverloadedError(detail, retry_after_s=1)

    def _make_room(self, connections: Collection[Connection], new: Connection, now: float) -> bool:
        """Close the connection that was unused for longest; False = all are in use."""
        while True:
            while self._unused:
                since, connection = self._unused.pop()
                if connection in connections and connection.unused_since() == since:
                    connection.close()
                    return True
            if now < self._next_look:
                return False
            self._unused = [
                (unused_since, connection)
                for connection in connections
                if connection is not new and (unused_since := connection.unused_since()) is not None
            ]
            self._unused.sort(key=lambda entry: entry[0], reverse=True)
            if 64 * len(self._unused) < len(connections):
                self._next_look = now + self._retry_s
            if not self._unused:
                return False
