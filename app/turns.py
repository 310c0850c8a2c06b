"""Whose rows go next: the requests of one client in a lane take turns.

Round robin with a quantum (Shreedhar & Varghese 1995, "Efficient fair queuing using deficit round
robin"; rows all cost the same, so no deficit is kept). A turn is at most one *tile* of rows. A
request that has more goes back to the end, so a request of one row waits for one tile of each
request before it, however large those are; and who is alone takes turn after turn.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar


@dataclass(eq=False, kw_only=True, slots=True)
class Ticket:
    """A request's place in the queue."""

    waiting: int  # rows still to be handed out
    client: Hashable = None  # whose it is; None = nobody in particular
    quantum: int = 0  # rows left of its turn


T = TypeVar("T", bound=Ticket)


class Turns(Generic[T]):
    """The queue of one client in a lane.

    Args:
        tile: Rows of one turn at most.
    """

    def __init__(self, tile: int) -> None:
        self.waiting = 0  # rows of all tickets
        self._tile = tile
        self._this_round = 0  # rows that would be handed out if each ticket ended its turn
        self._ring: OrderedDict[T, None] = OrderedDict()

    @property
    def tickets(self) -> list[T]:
        """In the order of their turns."""
        return list(self._ring)

    def add(self, ticket: T) -> None:
        """Put a ticket at the end."""
        ticket.quantum = self._tile
        self._insert(ticket)

    def remove(self, ticket: T) -> None:
        """Take a ticket out, with the rows that it still has; it may be out already."""
        if ticket in self._ring:
            del self._ring[ticket]
            self.waiting -= ticket.waiting
            self._this_round -= min(ticket.quantum, ticket.waiting)

    def take(self, room: int, skip: Callable[[T], bool]) -> list[tuple[T, int]]:
        """Hand out up to ``room`` rows, turn by turn: each ticket with how many it gave.

        Tickets of which ``skip`` is true are taken out instead.
        """
        given: dict[T, int] = {}
        while room and self._ring:
            ticket = next(iter(self._ring))
            if skip(ticket):
                self.remove(ticket)
                continue
            rows = min(ticket.quantum, ticket.waiting, room)
            room -= rows
            self.remove(ticket)
            ticket.waiting -= rows
            ticket.quantum -= rows
            given[ticket] = given.get(ticket, 0) + rows
            if ticket.waiting and ticket.quantum:  # the room ended within its turn
                self._insert(ticket)
                self._ring.move_to_end(ticket, last=False)
            elif ticket.waiting:
                self.add(ticket)
        return list(given.items())

    def ahead_of(self, rows: int) -> int:
        """How many of the rows queued now can go before the last of ``rows`` new ones."""
        turns = -(-rows // self._tile)
        return min(self.waiting, self._this_round + (turns - 1) * self._tile * len(self._ring))

    def _insert(self, ticket: T) -> None:
        self._ring[ticket] = None
        self.waiting += ticket.waiting
        self._this_round += min(ticket.quantum, ticket.waiting)
