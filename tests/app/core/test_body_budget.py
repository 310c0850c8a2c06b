"""Bytes of bodies: how many a process holds, and one client of them."""

import asyncio
from typing import Any

import httpx
import pytest

from app.core.body_budget import BodyBudget
from app.errors import OverloadedError, OverShareError
from tests.app.http.raw_connection import UPLOAD_HEAD, RawConnection
from tests.hostile import picture


def test_a_client_leaves_room_for_others_and_gets_back_what_it_gives() -> None:
    budget = BodyBudget(100, 0.8)
    budget.take("a", 79)
    with pytest.raises(OverShareError, match="79 bytes of request bodies"):
        budget.take("a", 2)
    budget.take("b", 16)
    with pytest.raises(OverShareError):
        budget.take("b", 2)
    with pytest.raises(OverloadedError, match="takes 100 at a time"):
        budget.take("c", 6)
    budget.give_back("a", 79)
    assert budget.held == 16
    budget.take("c", 84)  # with nothing held it may take all
    assert budget.held == 100


def test_of_unknown_clients_none_has_a_share() -> None:
    budget = BodyBudget(100, 0.5)
    for _ in range(10):
        budget.take(None, 10)
    with pytest.raises(OverloadedError):
        budget.take(None, 1)


async def test_bodies_that_are_sent_and_never_end_leave_room_and_are_given_back(
    make_wire: Any, app_of: Any
) -> None:
    wire: httpx.AsyncClient = await make_wire(
        max_body_bytes=100_000, max_bodies_bytes=200_000, max_share=0.5
    )
    bodies = app_of(wire).state.service.bodies
    head = UPLOAD_HEAD + b"Content-Length: 90000\r\n\r\n"
    async with RawConnection(wire) as first, RawConnection(wire) as second:
        first.send(head + bytes(89_999))
        while bodies.held < 89_999:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        second.send(head + bytes(89_999))
        detail = await second.refused(429, "over-share")
        assert "bytes of request bodies under way are yours" in detail
    while bodies.held:  # noqa: ASYNC110  # who leaves gives back
        await asyncio.sleep(0.01)
    answer = await wire.post("/encode", content=picture(), headers={"content-type": "image/png"})
    assert answer.status_code == 200
    assert bodies.held == 0
