"""Whose job is next: clients take turns, and one client leaves something for the others.

As ``app.batching.fair_queue`` for rows of a model. Jobs differ in two ways: several run at a time,
and each takes memory, of which there is so much.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field


class FullError(Exception):
    """There is no room for the job.

    Args:
        own: Jobs that the client has waiting, where that is why; None = that is not why.
        waiting: Jobs of all clients.
    """

    def __init__(self, own: int | None, waiting: int) -> None:
        super().__init__(f"{waiting} jobs wait")
        self.own, self.waiting = own, waiting


@dataclass(eq=False, kw_only=True)
class Turn:
    """A job's place."""

    client: Hashable
    memory: int = 0  # bytes, while it runs
    size: int = 0  # bytes, while it waits
    on_turn: Callable[[], None]  # called once, when it may run
    running: bool = False


@dataclass(kw_only=True)
class Turns:
    """See the module.

    Args:
        slots: Jobs that run at a time.
        slots_per_client: Of these, how many may be one client's.
        memory: Bytes of all that run.
        passing: Bytes up to which a job may pass one that waits for memory.
        most_jobs, most_bytes: That wait.
        max_share: Of the room that other clients leave, how much one client may fill.
    """

    slots: int
    slots_per_client: int
    memory: int = 0
    passing: int = 0
    most_jobs: int
    most_bytes: int
    max_share: float = 1.0
    waiting: int = 0
    _bytes: int = 0  # of those that wait
    _used: int = 0  # bytes of memory
    _running: Counter[Hashable] = field(default_factory=Counter)
    _ring: OrderedDict[Hashable, deque[Turn]] = field(default_factory=OrderedDict)

    def ask(self, turn: Turn) -> None:
        """Have a job wait for its turn, which may come before this returns.

        Raises:
            FullError
        """
        own = len(self._ring.get(turn.client, ()))
        idle = not self.waiting and self._may_run(turn)
        if not idle and self._is_full(turn, own):
            others = self.waiting > own or self._running.total() > self._running[turn.client]
            is_why = others and own * max(2, len(self._ring)) > self.waiting
            raise FullError(own if is_why else None, self.waiting)
        self._ring.setdefault(turn.client, deque()).append(turn)
        self.waiting += 1
        self._bytes += turn.size
        self._next()

    def end(self, turn: Turn) -> None:
        """The job is done, or nobody waits for it any more."""
        if turn.running:
            turn.running = False
            self._used -= turn.memory
            self._running[turn.client] -= 1
            if not self._running[turn.client]:
                del self._running[turn.client]
        elif turn in (queue := self._ring.get(turn.client, deque())):
            queue.remove(turn)
            self._left(turn, queue)
        self._next()

    def _is_full(self, turn: Turn, own: int) -> bool:
        if self.waiting >= self.most_jobs or self._bytes + turn.size > self.most_bytes:
            return True
        room = self.most_jobs - (self.waiting - own)
        return own > 0 and own + 1 > self.max_share * room

    def _may_run(self, turn: Turn) -> bool:
        return (
            self._running.total() < self.slots
            and self._running[turn.client] < self.slots_per_client
            and self._used + turn.memory <= self.memory
        )

    def _next(self) -> None:
        """Let run whatever may."""
        while turn := self._chosen():
            queue = self._ring[turn.client]
            queue.popleft()
            self._ring.move_to_end(turn.client)
            self._left(turn, queue)
            turn.running = True
            self._used += turn.memory
            self._running[turn.client] += 1
            turn.on_turn()

    def _chosen(self) -> Turn | None:
        passed = False
        for client, queue in self._ring.items():
            turn = queue[0]
            if self._may_run(turn) and not (passed and turn.memory > self.passing):
                return turn
            # It waits for memory alone: only small jobs go first, and that much is left for them.
            passed |= self._running[client] < self.slots_per_client
        return None

    def _left(self, turn: Turn, queue: deque[Turn]) -> None:
        """A job waits no more."""
        self.waiting -= 1
        self._bytes -= turn.size
        if not queue:
            del self._ring[turn.client]
