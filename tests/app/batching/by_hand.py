"""An event loop and an executor that a test moves by hand, and what it knows of a request."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from app.batching.ticket import Timing


class HandLoop(asyncio.SelectorEventLoop):
    """Its time is ``now``."""

    now = 0.0

    def time(self) -> float:
        return self.now


class HandExecutor(Executor):
    """Keeps the one call that is running until the test completes it."""

    def __init__(self, entered: Callable[[str, list[int]], None]) -> None:
        self.entered = entered
        self.call: tuple[Future[Any], Callable[[], Any]] | None = None

    def submit(self, fn: Any, /, *args: Any, **_: Any) -> Future[Any]:
        assert self.call is None, "two calls at once"
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self.call = (future, lambda: fn(*args))
        self.entered(*args)
        return future

    def complete(self) -> None:
        assert self.call
        (future, function), self.call = self.call, None
        try:
            result = function()
        except RuntimeError as error:
            future.set_exception(error)
        else:
            future.set_result(result)


@dataclass(eq=False)
class Asked:
    """One request, as the test knows it."""

    key: str
    client: str
    rows: list[int]
    deadline: float
    arrived: float
    task: "asyncio.Task[tuple[list[int], Timing]]"
    ahead: int  # rows that may go before its first turn ends, whatever other clients queue
    batches: int  # of its operation, formed when it came
    too_late: bool  # it came when the batcher was closing
    background: bool
    yielded: int  # rows of its operation's calls that went to the background before it came
    cancelled: bool = False
    gone: bool = False  # its caller will not read an answer
    poison: str = ""  # raises | bad row | "" = sound
    runs: list[int] = field(default_factory=list)  # its rows, as they reached the model

    @property
    def waiting(self) -> int:
        return len(self.rows) - len(set(self.runs))
