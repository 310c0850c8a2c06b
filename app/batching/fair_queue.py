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


@dataclass(eq=False, slots=True)
class _Share(Generic[T]):
    """What one client has queued."""

    turns: Turns[T]
    turn: float  # since when it waits for its turn
    quantum: int  # rows left of that turn
    waiting: int = 0  # rows, as the queue has counted them
    due: int = 0  # of these, what would be handed out if it ended its turn


class Shares(Generic[T]):
    """The queue of one lane.

    Args:
        tile: Rows of one turn at most, of a client and of a request.
    """

    def __init__(self, tile: int) -> None:
        self.waiting = 0  # rows of all tickets
        self._tile = tile
        self._this_round = 0  # rows that would be handed out if each client ended its turn
        self._ring: OrderedDict[Hashable, _Share[T]] = OrderedDict()

    @property
    def tickets(self) -> list[T]:
        """All of them, client by client."""
        return [ticket for share in self._ring.values() for ticket in share.turns.tickets]

    @property
    def turn(self) -> float:
        """Since when the first waits for its turn; the queue must not be empty."""
        return next(iter(self._ring.values())).turn

    @property
    def clients(self) -> int:
        """How many have something queued."""
        return len(self._ring)

    def of(self, client: Hashable) -> int:
        """Rows that one client has queued."""
        share = self._ring.get(client)
        return share.waiting if share else 0

    def add(self, ticket: T, now: float) -> None:
        """Put a ticket at the end of its client's, and a new client at the end of all."""
        share = self._ring.get(ticket.client)
        if share is None:
            share = self._ring[ticket.client] = _Share(Turns(self._tile), now, self._tile)
        share.turns.add(ticket)
        self._settle(ticket.client, share)

    def remove(self, ticket: T) -> None:
        """Take a ticket out, with the rows that it still has; it may be out already."""
        if share := self._ring.get(ticket.client):
            share.turns.remove(ticket)
            self._settle(ticket.client, share)

    def take(self, room: int, now: float, skip: Callable[[T], bool]) -> list[tuple[T, int]]:
        """Hand out up to ``room`` rows, turn by turn: each ticket with how many it gave.

        Tickets of which ``skip`` is true are taken out instead.
        """
        given: dict[T, int] = {}
        while room and self._ring:
            client, share = next(iter(self._ring.items()))
            for ticket, rows in share.turns.take(min(room, share.quantum), skip):
                given[ticket] = given.get(ticket, 0) + rows
                share.quantum -= rows
                room -= rows
            if not share.quantum:
                share.turn, share.quantum = now, self._tile
                self._ring.move_to_end(client)
            self._settle(client, share)
        return list(given.items())

    def ahead_of(self, rows: int, client: Hashable) -> int:
        """How many of the rows queued now can go before the last of ``rows`` new ones of a
        client."""
        share = self._ring.get(client)
        if share is None:  # it will be the last
            own, first, others = 0, self._tile, len(self._ring)
            waiting, this_round = self.waiting, self._this_round
        else:
            own, first, others = share.turns.ahead_of(rows), share.quantum, len(self._ring) - 1
            waiting, this_round = self.waiting - share.waiting, self._this_round - share.due
        more = max(0, -(-(own + rows - first) // self._tile))  # turns of its own after the first
        return own + min(waiting, this_round + more * self._tile * others)

    def _settle(self, client: Hashable, share: _Share[T]) -> None:
        """Count a client's rows anew; one that has none is gone."""
        waiting = share.turns.waiting
        due = min(share.quantum, waiting)
        self.waiting += waiting - share.waiting
        self._this_round += due - share.due
        share.waiting, share.due = waiting, due
        if not waiting:
            del self._ring[client]
