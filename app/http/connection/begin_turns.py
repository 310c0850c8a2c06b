"""Requests begin a few in each turn of the event loop, and clients take turns.

A request of the full route computes for half a millisecond before it first waits. Hundreds that
begin together, as when one client opens many connections with pipelined requests, would keep the
loop from everybody else for as many half milliseconds, again and again. Here they wait instead,
and cost nothing if their client leaves meanwhile.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

# Images of one turn are generated in one batch; larger ones gain little.
MOST = 16
TURN_S = 0.01  # of the processor's time, for all that a turn of the loop does

Begin = Callable[[], bool]  # False = the client has left, and nothing was begun


class BeginTurns:
    """See the module.

    Args:
        call_soon: The event loop's: calls in its next turn.
        most: Requests begun in each turn of the loop; fewer, but one at least, where they are so
            expensive that turns take over ``TURN_S``.
        clock: Seconds of the processor's time.
    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        most: int = MOST,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._call_soon = call_soon
        self._most = self._room = self._left = most  # in all turns, this one, what is left of it
        self._clock = clock
        self._began = 0.0  # this turn
        self._awake = False  # ``_next`` is to be called
        self._ring: OrderedDict[Hashable, deque[Begin]] = OrderedDict()

    def ask(self, client: Hashable, begin: Begin) -> None:
        """Begin a request, now if there is room in this turn, else when it is its client's turn."""
        if not self._awake:
            self._awake, self._began = True, self._clock()
            self._call_soon(self._next)
        if self._left and not self._ring:
            self._left -= begin()
        else:
            self._ring.setdefault(client, deque()).append(begin)

    def _next(self) -> None:
        """A turn of the loop begins."""
        now = self._clock()
        spent, self._began = now - self._began, now
        if spent > TURN_S:
            self._room = max(1, int(self._room * TURN_S / spent))
        elif self._room < self._most:
            self._room += 1
        self._left = self._room
        try:
            while self._left and self._ring:
                client, waiting = self._ring.popitem(last=False)
                begin = waiting.popleft()
                if waiting:
                    self._ring[client] = waiting
                self._left -= begin()
        finally:  # one that fails stops no other
            self._awake = self._left < self._room or bool(self._ring)
            if self._awake:
                self._call_soon(self._next)
