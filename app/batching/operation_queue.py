"""What waits for one operation of one model, and how fast it moves."""

from typing import Generic, NamedTuple, TypeVar

from app.batching.fair_queue import FairQueue, Ticket
from app.batching.service_rate import ServiceRate

T = TypeVar("T", bound=Ticket)

QUANTA = 4  # turns that have room in a full batch, so that large requests share one


class QueueConfig(NamedTuple):
    """What is known of an operation before its first call."""

    max_batch: int  # rows of one call at most
    rate: float = 0.0  # rows a second in full calls; 0 = unknown
    inline_rows: int = 0  # calls up to this size are made on the event loop; 0 = none


class OperationQueue(Generic[T]):
    """See the module.

    The background goes after the foreground, and counts for no limit.
    """

    def __init__(self, config: QueueConfig) -> None:
        self.max_batch = config.max_batch
        self.inline_rows = config.inline_rows
        self.quantum = max(1, config.max_batch // QUANTA)  # rows of one turn
        self.foreground: FairQueue[T] = FairQueue(self.quantum)
        self.background: FairQueue[T] = FairQueue(self.quantum)
        self.service_rate = ServiceRate(config.max_batch, config.rate)

    def add(self, ticket: T, now: float) -> None:
        """Queue a ticket where it belongs."""
        (self.background if ticket.background else self.foreground).add(ticket, now)

    def remove(self, ticket: T) -> None:
        """Take a ticket out with the rows that it still has, if it is there."""
        (self.background if ticket.background else self.foreground).remove(ticket)
