"""More connections than a process takes: which one is closed, and what a refused one may ask."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.errors import OverloadedError
from app.http.connection.limit import ConnectionLimit
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
    assert limit.admit(connections, connections[3], 9.0) is None
    assert [one.closed for one in connections] == [False, False, True, False]


def test_one_that_was_used_again_meanwhile_is_kept() -> None:
    limit = ConnectionLimit(3)
    first, second, third = connections = [Fake(1.0), Fake(2.0), Fake(3.0)]
    assert limit.admit([*connections, new := Fake(4.0)], new, 4.0) is None
    assert first.closed
    second.since = 5.0
    assert limit.admit([second, third, new, newer := Fake(6.0)], newer, 6.0) is None
    assert (second.closed, third.closed) == (False, True)


def test_without_an_unused_one_the_new_connection_may_ask_for_health_alone() -> None:
    limit = ConnectionLimit(1)
    connections = [Fake(None), Fake(0.0)]
    refusal = limit.admit(connections, connections[1], 0.0)
    assert refusal
    limit.check(refusal, "/livez")
    limit.check(refusal, "/v2/health/ready")
    with pytest.raises(OverloadedError, match="all 1 connections"):
        limit.check(refusal, "/generate")


def test_in_a_storm_not_all_connections_are_looked_at_for_each_new_one() -> None:
    limit = ConnectionLimit(100)
    connections = [Fake(float(index)) for index in range(100)]
    for index in range(50):
        connections.append(new := Fake(100.0 + index))
        assert limit.admit(connections, new, 100.0 + index) is None
        connections = [one for one in connections if not one.closed]
    assert sum(one.looks for one in connections) <= 100 + 50


def test_where_all_are_in_use_they_are_looked_at_only_now_and_then() -> None:
    limit = ConnectionLimit(100, retry_s=0.05)
    busy = [Fake(None) for _ in range(100)]
    for now in (0.0, 0.01, 0.02, 0.049):
        assert limit.admit([*busy, new := Fake(now)], new, now)
    assert {one.looks for one in busy} == {1}
    busy[0].since = 0.01
    assert limit.admit([*busy, new := Fake(0.06)], new, 0.06) is None


class Door:
    """A limit with the connections that it admitted."""

    def __init__(self, maximum: int, max_share: float) -> None:
        self.refused: list[str] = []
        self._limit = ConnectionLimit(maximum, 0.05, max_share, self.refused.append)
        self.all: dict[Fake, str | None] = {}

    def open(self, client: str | None, since: float | None = None, now: float = 0.0) -> str | None:
        """The kind of the refusal, if it is one; a refused connection is gone at once."""
        self.all[new := Fake(since)] = client
        refusal = self._limit.admit(self.all, new, now, client)
        for connection in [one for one in self.all if one.closed or (refusal and one is new)]:
            owner = self.all.pop(connection)
            self._limit.closed(self.all, connection, owner)
        return refusal.slug if refusal else None

    def count(self, client: str | None) -> int:
        return sum(owner == client for owner in self.all.values())


def test_a_client_alone_leaves_room_for_others_who_get_a_share_of_the_rest() -> None:
    door = Door(200, 0.8)
    for _ in range(260):
        door.open("attacker")
    assert door.count("attacker") == 160
    assert set(door.refused) == {"share"}
    for client in ("second", "third"):
        assert door.open(client) is None
    for _ in range(100):
        door.open("second")
    assert 20 < door.count("second") < 40
    assert door.open("third") is None
    assert door.open("attacker") == "over-share"


def test_over_its_share_a_client_makes_room_among_its_own_idle_connections_alone() -> None:
    door = Door(10, 0.5)
    assert [door.open("other", since=0.0) for _ in range(2)] == [None, None]
    assert [door.open("busy") for _ in range(4)] == [None] * 4
    assert door.open("busy") == "over-share"
    assert door.count("other") == 2
    for index in range(20):
        assert door.open("idle", since=float(index), now=float(index)) is None
    assert (door.count("other"), door.count("busy")) == (2, 4)
    assert door.count("idle") <= 3


def test_a_client_may_always_have_one_connection_and_a_proxys_are_nobodys() -> None:
    door = Door(2, 0.5)
    assert door.open("first") is None
    assert door.open("second") is None
    assert door.open("first") == "over-share"
    proxied = Door(10, 0.5)
    assert [proxied.open(None) for _ in range(10)] == [None] * 10
    assert proxied.open(None) == "overloaded"


async def test_a_client_that_holds_most_connections_is_told_so(make_wire: Any) -> None:
    wire = await make_wire(max_connections=4, max_share=0.5)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            holder = await stack.enter_async_context(RawConnection(wire))
            holder.send(UPLOAD_HEAD + b"Content-Length: 5\r\n\r\n")
            await asyncio.sleep(0.05)
        refused = await stack.enter_async_context(RawConnection(wire))
        refused.send(FAST)
        assert "connections of this process are yours" in await refused.refused(429, "over-share")
        probe = await stack.enter_async_context(RawConnection(wire))
        probe.send(LIVEZ)
        assert (await probe.response())[0] == 200


async def test_idle_connections_make_room_for_new_ones(make_wire: Any, app_of: Any) -> None:
    wire = await make_wire(max_connections=5, max_share=1)
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
    wire = await make_wire(max_connections=2, max_share=1)
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
