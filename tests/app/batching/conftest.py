"""A batcher over a model made of plain functions, with events instead of sleeps."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.batching.batcher import Batcher
from app.batching.operation_queue import QueueConfig

Call = tuple[str, list[int]]


class FakeModel:
    """Doubles numbers, remembers its calls, and waits while it is held."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.free = threading.Event()
        self.free.set()
        self.entered = threading.Event()
        self.bad_rows: set[int] = set()
        self.raise_on: set[int] = set()

    def __call__(self, key: str, rows: list[int]) -> Sequence[int | Exception]:
        self.calls.append((key, list(rows)))
        self.entered.set()
        assert self.free.wait(10)
        if self.raise_on & set(rows):
            raise RuntimeError("the model broke")
        return [ValueError("bad row") if row in self.bad_rows else 2 * row for row in rows]

    async def hold(self, batcher: "Batcher[str, int, int]") -> "asyncio.Task[Any]":
        """Keep the model busy with one row, so that what follows has to queue."""
        self.free.clear()
        self.entered.clear()
        task = asyncio.ensure_future(batcher.submit("hold", [0]))
        assert await asyncio.to_thread(self.entered.wait, 10)
        return task


Setup = Callable[..., Any]


@pytest.fixture
def setup() -> Setup:
    @asynccontextmanager
    async def make(**options: Any) -> AsyncIterator[tuple[FakeModel, Batcher[str, int, int]]]:
        model = FakeModel()
        most, rates = options.pop("max_batch", 4), options.pop("rates", {})
        operations = {
            name: QueueConfig(most, rates.get(name, 0)) for name in ("a", "b", "c", "hold")
        }
        operations["now"] = QueueConfig(most, inline_rows=2)
        batcher: Batcher[str, int, int] = Batcher(
            model, ThreadPoolExecutor(1), operations, **({"queue_limit": 100} | options)
        )
        try:
            yield model, batcher
        finally:
            model.free.set()
            await batcher.close()

    return make


async def queued(batcher: "Batcher[str, int, int]", rows: int) -> None:
    """Let tasks run until so many rows wait."""
    while batcher.waiting != rows:  # noqa: ASYNC110  # the batcher has no such event
        await asyncio.sleep(0)


async def in_background(batcher: "Batcher[str, int, int]", rows: int) -> None:
    """Let tasks run until so many rows wait in the background."""
    while batcher.waiting_in_background != rows:  # noqa: ASYNC110  # the batcher has no such event
        await asyncio.sleep(0)
