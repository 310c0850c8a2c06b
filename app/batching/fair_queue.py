"""A fair queue: the clients of an operation take turns, and so do the requests of a client.

Round robin with a quantum (Shreedhar & Varghese 1995, "Efficient fair queuing using deficit round
robin"; every row costs the same, so there is no deficit to keep), at two levels. ``FairQueue`` goes
round the clients; each client's ``RoundRobin`` goes round its requests. A turn is one *quantum* of
rows at most, at either level. What has more goes back to the end: a request of one row waits for
one quantum of each client before it, however much those have queued, and whoever is alone takes
turn after turn.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar


@dataclass(eq=False, kw_only=True, slots=True)
class Ticket:
    """A request's place in the queue."""

    waiting: int  # rows still to be handed out
    client: Hashable = None  # whose it is; None = nobody's in particular
    background: bool = False  # goes after all that is not
    left_of_turn: int = 0  # rows


T = TypeVar("T", bound=Ticket)


class RoundRobin(Generic[T]):
    """The requests of one client.

    Args:
        quantum: Rows of one turn at most.
    """

    def __init__(self, quantum: int) -> None:
        self.waiting = 0  # rows of all tickets
        self._quantum = quantum
        self._this_round = 0  # rows handed out if each ticket ended its turn
        self._ring: OrderedDict[T, None] = OrderedDict()

    @property
    def tickets(self) -> list[T]:
        """In the order of their turns."""
        return list(self._ring)

    def add(self, ticket: T) -> None:
        """Put a ticket at the end."""
        ticket.left_of_turn = self._quantum
        self._insert(ticket)

    def remove(self, ticket: T) -> None:
        """Take a ticket out with the rows that it still has, if it is there."""
        if ticket in self._ring:
            del self._ring[ticket]
            self.waiting -= ticket.waiting
            self._this_round -= min(ticket.left_of_turn, ticket.waiting)

    def take(self, room: int, skip: Callable[[T], bool]) -> list[tuple[T, int]]:
        """Hand out up to ``room`` rows, turn by turn.

        Args:
            room: Rows.
            skip: Whether a ticket is to be taken out instead.

        Returns:
            Each ticket that gave rows, and how many.
        """
        given: dict[T, int] = {}
        while room and self._ring:
            ticket = next(iter(self._ring))
            if skip(ticket):
                self.remove(ticket)
                continue
            rows = min(ticket.left_of_turn, ticket.waiting, room)
            room -= rows
            self.remove(ticket)
            ticket.waiting -= rows
            ticket.left_of_turn -= rows
            given[ticket] = given.get(ticket, 0) + rows
            if ticket.waiting and ticket.left_of_turn:  # the room ended within its turn
                self._insert(ticket)
                self._ring.move_to_end(ticket, last=False)
            elif ticket.waiting:
                self.add(ticket)
        return list(given.items())

    def rows_before(self, rows: int) -> int:
        """How many of the rows queued now can go before the last of ``rows`` new ones."""
        turns = -(-rows // self._quantum)
        return min(self.waiting, self._this_round + (turns - 1) * self._quantum * len(self._ring))

    def _insert(self, ticket: T) -> None:
        self._ring[ticket] = None
        self.waiting += ticket.waiting
        self._this_round += min(ticket.left_of_turn, ticket.waiting)


@dataclass(eq=False, slots=True)
class _Client(Generic[T]):
    """What one client has queued."""

    requests: RoundRobin[T]
    turn_since: float  # when it began to wait for its turn
    left_of_turn: int  # rows
    # As the queue last counted them:
    waiting: int = 0  # rows
    this_round: int = 0  # of these, rows handed out if it ended its turn


class FairQueue(Generic[T]):
    """The clients of one operation, each with its requests. Times are seconds on one clock.

    Args:
        quantum: Rows of one turn at most, of a client and of a request.
    """

    def __init__(self, quantum: int) -> None:
        self.waiting = 0  # rows of all tickets
        self._quantum = quantum
        self._this_round = 0  # rows handed out if each client ended its turn
        self._ring: OrderedDict[Hashable, _Client[T]] = OrderedDict()

    @property
    def tickets(self) -> list[T]:
        """All of them, client by client."""
        return [ticket for client in self._ring.values() for ticket in client.requests.tickets]

    @property
    def turn_since(self) -> float:
        """When the first client began to wait for its turn; the queue must not be empty."""
        return next(iter(self._ring.values())).turn_since

    @property
    def clients(self) -> int:
        """How many have rows queued."""
        return len(self._ring)

    def waiting_of(self, name: Hashable) -> int:
        """Rows that one client has queued."""
        client = self._ring.get(name)
        return client.waiting if client else 0

    def add(self, ticket: T, now: float) -> None:
        """Put a ticket at the end of its client's, and a new client at the end of all."""
        client = self._ring.get(ticket.client)
        if client is None:
            client = _Client(RoundRobin[T](self._quantum), now, self._quantum)
            self._ring[ticket.client] = client
        client.requests.add(ticket)
        self._recount(ticket.client, client)

    def remove(self, ticket: T) -> None:
        """Take a ticket out with the rows that it still has, if it is there."""
        if client := self._ring.get(ticket.client):
            client.requests.remove(ticket)
            self._recount(ticket.client, client)

    def take(self, room: int, now: float, skip: Callable[[T], bool]) -> list[tuple[T, int]]:
        """Hand out up to ``room`` rows, turn by turn; otherwise as ``RoundRobin.take``."""
        given: dict[T, int] = {}
        while room and self._ring:
            name, client = next(iter(self._ring.items()))
            for ticket, rows in client.requests.take(min(room, client.left_of_turn), skip):
                given[ticket] = given.get(ticket, 0) + rows
                client.left_of_turn -= rows
                room -= rows
            if not client.left_of_turn:
                client.turn_since, client.left_of_turn = now, self._quantum
                self._ring.move_to_end(name)
            self._recount(name, client)
        return list(given.items())

    def rows_before(self, rows: int, name: Hashable) -> int:
        """How many of the rows queued now can go before the last of ``rows`` new ones of a
        client."""
        client = self._ring.get(name)
        if client is None:  # it will be the last
            own, first, others = 0, self._quantum, len(self._ring)
            waiting, this_round = self.waiting, self._this_round
        else:
            own, first = client.requests.rows_before(rows), client.left_of_turn
            others = len(self._ring) - 1
            waiting = self.waiting - client.waiting
            this_round = self._this_round - client.this_round
        # Turns that the client needs after its first:
        more = max(0, -(-(own + rows - first) // self._quantum))
        return own + min(waiting, this_round + more * self._quantum * others)

    def _recount(self, name: Hashable, client: _Client[T]) -> None:
        """Count a client's rows again; one that has none leaves the ring."""
        waiting = client.requests.waiting
        this_round = min(client.left_of_turn, waiting)
        self.waiting += waiting - client.waiting
        self._this_round += this_round - client.this_round
        client.waiting, client.this_round = waiting, this_round
        if not waiting:
            del self._ring[name]
