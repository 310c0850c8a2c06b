"""Responses written in pieces: others have their turn, and nobody is written for in vain."""

import asyncio
from collections.abc import Iterator

import pytest

from app.batching.ticket import ClientDisconnectedError
from app.core.pieces import PIECE, joined
from app.core.requests import RequestContext
from app.errors import DeadlineExceededError

PART = bytes(PIECE // 4)


class Parts:
    """Parts without end, and how many were asked for."""

    asked = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.asked += 1
            yield PART


async def test_others_have_their_turn_after_each_piece() -> None:
    turns: list[int] = []
    parts = Parts()

    async def others() -> None:
        while True:
            turns.append(parts.asked)
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    context = RequestContext(1.0)
    body = await joined(_first(parts, 40), context, lambda: 0.0)
    task.cancel()
    assert body == PART * 40
    assert turns == list(range(4, 41, 4))


def _first(parts: Parts, count: int) -> Iterator[bytes]:
    for part in parts:
        if parts.asked > count:
            return
        yield part


async def test_nothing_is_written_after_the_deadline_or_for_a_client_that_left() -> None:
    parts = Parts()
    with pytest.raises(DeadlineExceededError, match="not written in the time"):
        await joined(parts, RequestContext(8.0), lambda: float(parts.asked))
    assert parts.asked == 8
    parts = Parts()
    with pytest.raises(ClientDisconnectedError):
        await joined(parts, RequestContext(1.0, lambda: parts.asked > 8), lambda: 0.0)
    assert parts.asked == 12
