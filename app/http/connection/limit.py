"""At most so many connections: an unused one makes room for a new one, else the new one is refused.

Unused are connections between two requests, and those whose first request has not come whole. They
cost an attacker nothing, so they must not keep others out. A client has a share: beyond it only its
own unused connections make room, and then its new ones are refused. A connection that is not
admitted may still ask for the service's health.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable
from typing import Protocol

from app.errors import OverloadedError, OverShareError, ServiceError
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
        max_share: Of the connections that other clients leave, how many one client may have
            (dynamic thresholds, as in ``app.batching.admission``); it may always have one. 1 = all.
        on_refused: Called with the reason, ``full`` or ``share``, of each that is not admitted.
    """

    def __init__(
        self,
        maximum: int,
        retry_s: float = 0.05,
        max_share: float = 1.0,
        on_refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.maximum = maximum
        self._retry_s = retry_s
        self._max_share = max_share
        self._on_refused = on_refused
        # Connections of each client, oldest first, and when they may be looked at again.
        self._of: defaultdict[Hashable, dict[Connection, None]] = defaultdict(dict)
        self._next_look_at: dict[Hashable, float] = {}
        self._unused: list[tuple[float, Connection]] = []  # with ``unused_since``, then
        self._next_look = -math.inf

    def admit(
        self,
        connections: Collection[Connection],
        new: Connection,
        now: float,
        client: Hashable = None,
    ) -> ServiceError | None:
        """Why the new connection may not make any request; None = it may. Closes another one if it
        has to.

        Args:
            connections: All, with the new one.
            new: Just opened.
            now: On the event loop's clock.
            client: Whose it is; None = many clients share it, as behind a proxy.
        """
        if client is not None:
            own = self._of[client]
            own[new] = None
            others = len(connections) - len(own)
            if (
                self._max_share < 1
                and len(connections) > self._max_share * self.maximum
                and 1 < len(own) > self._max_share * (self.maximum - others)
                and not self._make_own_room(client, new, now)
            ):
                self._on_refused("share")
                return OverShareError.of_connections(len(own), self.maximum)
        if len(connections) <= self.maximum or self._make_room(connections, new, now):
            return None
        self._on_refused("full")
        detail = f"all {self.maximum} connections of this process are in use"
        return OverloadedError(detail, retry_after_s=1)

    def closed(
        self,
        connections: Collection[Connection],
        connection: Connection | None = None,
        client: Hashable = None,
    ) -> None:
        """A connection has ended.

        Args:
            connections: Those that are left.
            connection: Which has ended.
            client: Whose it was.
        """
        if client is not None and (own := self._of.get(client)) is not None and connection:
            own.pop(connection, None)
            if not own:
                del self._of[client]
                self._next_look_at.pop(client, None)
        if len(connections) < self.maximum:
            self._unused.clear()  # it would keep closed connections

    @staticmethod
    def check(refusal: ServiceError, path: str) -> None:
        """Refuse a request on a connection that was not admitted.

        Raises:
            ServiceError: the refusal, if it asks for something other than the service's health.
        """
        if path not in HEALTH:
            raise refusal

    def _make_own_room(self, client: Hashable, new: Connection, now: float) -> bool:
        """Close the client's oldest unused connection; False = all are in use."""
        if now < self._next_look_at.get(client, -math.inf):
            return False
        for connection in self._of[client]:
            if connection is not new and connection.unused_since() is not None:
                connection.close()
                return True
        self._next_look_at[client] = now + self._retry_s
        return False

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
