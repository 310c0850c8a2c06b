"""More connections than a process takes: which one is closed, and what a refused one may ask."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.errors import OverloadedError
from app.http.connection_limit import ConnectionLimit
from tests.app.http.raw_connection import (
    FAST,
    LIVEZ,
    UPLOAD_HEAD,
    RawConnection,
    assert_serves,
)


class Fake:
    """A connection that is unused since then; None = it is in use."""

    def __init__(self, since: float | None) -> None:
        self.since = since
        self.closed = False
        self.looks = 0

    def unused_since(self) -> float | None:
        self.looks += 1
        return None if self.closed else self.since

    def close(self) -> None:
        self.closed = True


def test_the_connection_that_was_unused_for_longest_makes_room() -> None:
    limit = ConnectionLimit(3)
    connections = [Fake(2.0), Fake(None), Fake(1.0), Fake(9.0)]
    assert limit.admit(connections, connections[3], 9.0)
    assert [one.closed for one in connections] == [False, False, True, False]


def test_one_that_was_used_again_meanwhile_is_kept() -> None:
    limit = ConnectionLimit(3)
    first, second, third = connections = [Fake(1.0), Fake(2.0), Fake(3.0)]
    assert limit.admit([*connections, new := Fake(4.0)], new, 4.0)
    assert first.closed
    second.since = 5.0
    assert limit.admit([second, third, new, newer := Fake(6.0)], newer, 6.0)
    assert (second.closed, third.closed) == (False, True)


def test_without_an_unused_one_the_new_connection_may_ask_for_health_alone() -> None:
    limit = ConnectionLimit(1)
    connections = [Fake(None), Fake(0.0)]
    assert not limit.admit(connections, connections[1], 0.0)
    limit.check("/livez")
    limit.check("/v2/health/ready")
    with pytest.raises(OverloadedError, match="all 1 connections"):
        limit.check("/generate")


def test_in_a_storm_not_all_connections_are_looked_at_for_each_new_one() -> None:
    limit = ConnectionLimit(100)
    connections = [Fake(float(index)) for index in range(100)]
    for index in range(50):
        connections.append(new := Fake(100.0 + index))
        assert limit.admit(connections, new, 100.0 + index)
        connections = [one for one in connections if not one.closed]
    assert sum(one.looks for one in connections) <= 100 + 50


def test_where_all_are_in_use_they_are_looked_at_only_now_and_then() -> None:
    limit = ConnectionLimit(100, retry_s=0.05)
    busy = [Fake(None) for _ in range(100)]
    for now in (0.0, 0.01, 0.02, 0.049):
        assert not limit.admit([*busy, new := Fake(now)], new, now)
    assert {one.looks for one in busy} == {1}
    busy[0].since = 0.01
    assert limit.admit([*busy, new := Fake(0.06)], new, 0.06)


async def test_idle_connections_make_room_for_new_ones(make_wire: Any, app_of: Any) -> None:
    wire = await make_wire(max_connections=5)
    async with AsyncExitStack() as stack:
        for index in range(20):
            connection = await stack.enter_async_context(RawConnection(wire))
            if index % 3 == 0:
                connection.send(FAST)
                assert (await connection.response())[0] == 200
            elif index % 3 == 1:
                connection.send(FAST[:20])
            assert len(app_of(wire).state.connections()) <= 6
        await assert_serves(wire)
        async with RawConnection(wire) as connection:
            connection.send(LIVEZ)
            assert (await connection.response())[0] == 200


async def test_when_all_connections_are_in_use_health_still_answers(
    make_wire: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = await make_wire(max_connections=2)
    service = app_of(wire).state.service
    held: list[Any] = []
    full = asyncio.Event()

    def hold(request: Any, on_done: Any) -> None:
        held.append((request, on_done))
        if len(held) == 2:
            full.set()

    monkeypatch.setattr(service, "start_generate", hold)
    async with RawConnection(wire) as first, RawConnection(wire) as second:
        for connection in (first, second):
            connection.send(FAST)
        await asyncio.wait_for(full.wait(), 30)
        for data in (
            FAST,
            FAST[:-2] + b"X-A: b\r\n\r\n",
            UPLOAD_HEAD + b"Content-Length: 5\r\n\r\nhello",
        ):
            async with RawConnection(wire) as refused:
                refused.send(data)
                assert "all 2 connections" in await refused.refused(503, "overloaded")
        async with RawConnection(wire) as probe:
            probe.send(LIVEZ)
            status, headers, _ = await probe.response()
            assert (status, headers["connection"]) == (200, "close")
        monkeypatch.undo()
        for request, on_done in held:
            service.start_generate(request, on_done)
        for connection in (first, second):
            assert (await connection.response())[0] == 200
    await assert_serves(wire)
