"""Requests on one connection, in whatever pieces they come; and how a connection ends."""

import asyncio
import gc
import json
import random
import weakref
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from app.http.connection.protocol import ServiceProtocol, service_protocol
from app.http.connection.state import NEXT, State
from app.main import create_app
from app.settings import Settings
from tests.app.http.raw_connection import (
    FAST,
    LIVEZ,
    UPLOAD_HEAD,
    RawConnection,
    Received,
    Response,
    assert_serves,
)


def fast(seed: int) -> bytes:
    return f"POST /generate?label=7&seed={seed} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


WITH_BODY = b"POST /decode HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
WITH_BODY += b'Content-Length: 8\r\n\r\n{"z": 1}'


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Received:
    return Received(monkeypatch)


async def exchange(
    wire: httpx.AsyncClient, received: Received, *pieces: bytes, responses: int
) -> list[Response]:
    """Send pieces, each after the protocol has received the one before; the responses."""
    async with RawConnection(wire) as connection:
        for piece in pieces:
            connection.send(piece)
            await received.next(len(piece))
        return [await connection.response() for _ in range(responses)]


@pytest.mark.parametrize(
    "pieces",
    [
        [fast(1) + fast(2) + fast(3)],
        [fast(1), fast(2), fast(3)],
        [fast(1)[:30], fast(1)[30:] + fast(2), fast(3)],
        [fast(1) + fast(2)[:20], fast(2)[20:], fast(3)],
        [fast(1) + fast(2) + fast(3)[:-1], fast(3)[-1:]],
        [*(fast(1)[i : i + 1] for i in range(20)), fast(1)[20:], fast(2) + fast(3)],
    ],
)
async def test_however_requests_are_cut_they_are_answered_in_order(
    wire: httpx.AsyncClient, received: Received, pieces: list[bytes]
) -> None:
    responses = await exchange(wire, received, *pieces, responses=3)
    expected = [(await wire.post(f"/generate?label=7&seed={n}")).content for n in (1, 2, 3)]
    assert len(set(expected)) == 3
    assert [body for _, _, body in responses] == expected


async def test_fast_and_other_requests_follow_each_other_on_one_connection(
    wire: httpx.AsyncClient, received: Received
) -> None:
    pieces = [fast(1) + LIVEZ, LIVEZ + fast(1), WITH_BODY, fast(1)]
    responses = await exchange(wire, received, *pieces, responses=6)
    assert [status for status, _, _ in responses] == [200] * 4 + [422, 200]
    images = [body for _, _, body in responses if body.startswith(b"\x89PNG")]
    assert images == [(await wire.post("/generate?label=7&seed=1")).content] * 3


async def test_fast_requests_that_come_while_another_is_answered_wait(
    wire: httpx.AsyncClient, received: Received
) -> None:
    """Many at once on one connection."""
    seeds = [0, 1, 2, *range(300)]
    alone = {
        seed: (await exchange(wire, received, fast(seed), responses=1))[0][2]
        for seed in range(0, 300, 23)
    }
    pieces = [*map(fast, seeds[:3]), b"".join(map(fast, seeds[3:]))]
    responses = await exchange(wire, received, *pieces, responses=303)
    for seed, (_, _, body) in zip(seeds, responses, strict=True):
        assert body == alone.get(seed, body)
    assert len({body for _, _, body in responses}) > 200


async def test_blanks_around_a_header_are_no_part_of_it(
    wire: httpx.AsyncClient, received: Received
) -> None:
    line = b"X-Request-ID:  \t mine \t \r\n\r\n"
    for end in (
        line,
        b"Proxy-Connection: keep-alive\r\n" + line,
    ):  # the fast path and the full route
        [(_, headers, _)] = await exchange(wire, received, fast(1)[:-2] + end, responses=1)
        assert headers["x-request-id"] == "mine"


async def test_a_refusal_waits_for_the_response_before_it(wire: httpx.AsyncClient) -> None:
    async with RawConnection(wire) as connection:
        connection.send(LIVEZ + b"rubbish\r\n\r\n")
        assert (await connection.response())[0] == 200
        assert await connection.rest() == b""
    await assert_serves(wire)


async def test_a_broken_body_behind_another_request_ends_the_connection_after_its_response(
    wire: httpx.AsyncClient, app_of: Any, received: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()

    async def wait(*_: object) -> dict[str, str]:
        await release.wait()
        return {}

    monkeypatch.setattr(app_of(wire).state.service.health, "failing_models", wait)
    broken = UPLOAD_HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"
    async with RawConnection(wire) as connection:
        connection.send(b"GET /readyz HTTP/1.1\r\nHost: test\r\n\r\n" + broken)
        await received.next(40)
        release.set()
        assert (await connection.response())[0] == 200
        assert await connection.rest() == b""


async def test_a_stop_finishes_the_response_and_closes_the_connection(
    wire: httpx.AsyncClient, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = app_of(wire).state.service
    begun = asyncio.Event()
    original = service.start_generate
    held: list[Any] = []

    def hold(request: Any, on_done: Any) -> None:
        held.append((request, on_done))
        begun.set()

    monkeypatch.setattr(service, "start_generate", hold)
    async with RawConnection(wire) as connection:
        connection.send(fast(1))
        await begun.wait()
        for protocol in list(app_of(wire).state.connections()):
            protocol.shutdown()
        original(*held[0])
        status, headers, _ = await connection.response()
        assert (status, headers["connection"]) == (200, "close")
        assert await connection.rest() == b""


@pytest.mark.slow
async def test_a_connection_that_has_ended_is_not_kept_for_the_garbage_collector(
    wire: httpx.AsyncClient, app_of: Any, received: Received
) -> None:
    await assert_serves(wire)
    before = set(app_of(wire).state.connections())
    await received.next(1)
    collected = asyncio.Event()
    gc.collect()
    gc.disable()
    try:
        async with RawConnection(wire) as connection:
            connection.send(UPLOAD_HEAD + b"Content-Length: 5\r\n\r\n")
            await received.next(70)  # so that it waits for the body
            connection.send(b"hello")
            assert (await connection.response())[0] in (415, 422)
            [protocol] = set(app_of(wire).state.connections()) - before
            weakref.finalize(protocol, collected.set)
            del protocol
        await asyncio.wait_for(collected.wait(), 10)
    finally:
        gc.enable()


async def test_who_waits_with_half_a_request_behind_is_still_unanswered(
    wire: httpx.AsyncClient, app_of: Any, received: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def wait(*_: object) -> dict[str, str]:
        entered.set()
        await release.wait()
        return {}

    monkeypatch.setattr(app_of(wire).state.service.health, "failing_models", wait)
    head = b"GET /v2/health/ready HTTP/1.1\r\nHost: test\r\n\r\n"
    half = b"GET /models HTTP/1.1\r\nHost: "
    before = set(app_of(wire).state.connections())
    async with RawConnection(wire) as connection:
        connection.send(head)
        await entered.wait()
        connection.send(half)
        await received.next(len(head) + len(half))
        [protocol] = set(app_of(wire).state.connections()) - before
        unanswered = protocol.unanswered()
        assert (unanswered.request, unanswered.target) == (True, b"/v2/health/ready")
        release.set()
        status, _, body = await connection.response()
    assert (status, json.loads(body)) == (200, {"ready": True})


def test_each_state_can_be_reached_and_can_end() -> None:
    reached = {State.NEW}
    while more := {after for state in reached for after in NEXT[state]} - reached:
        reached |= more
    assert reached == set(State) == set(NEXT)
    assert all(State.CLOSED in NEXT[state] for state in State if state is not State.CLOSED)


def connected() -> ServiceProtocol:
    """A protocol with a transport that does nothing."""
    settings = Settings()
    app = create_app(settings)
    protocol: Any = service_protocol(app.state.fast_path, settings)(
        config=uvicorn.Config(app), server_state=ServerState(), app_state={}
    )  # type: ignore[call-arg]
    transport = Mock(**{"is_closing.return_value": False, "get_extra_info.return_value": None})
    protocol.connection_made(transport)
    assert isinstance(protocol, ServiceProtocol)
    return protocol


async def test_a_wrong_transition_is_an_assertion() -> None:
    protocol = connected()
    protocol.connection_lost(None)
    with pytest.raises(AssertionError, match="cannot go from closed to closed"):
        protocol.connection_lost(None)


async def test_a_client_that_resets_the_connection_before_its_refusal_is_no_failure() -> None:
    protocol = connected()
    transport: Any = protocol.transport
    transport.write_eof.side_effect = OSError(107, "Transport endpoint is not connected")
    protocol.data_received(b"rubbish\r\n\r\n")
    transport.abort.assert_called_once()
    protocol.connection_lost(None)


async def test_an_assertion_in_the_parser_is_not_taken_for_a_malformed_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def on_url(*_: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr(ServiceProtocol, "on_url", on_url)
    protocol = connected()
    with pytest.raises(AssertionError, match="a bug"):
        protocol.data_received(LIVEZ)
    protocol.connection_lost(None)


@pytest.mark.slow
async def test_no_order_of_pieces_is_a_wrong_transition(make_wire: Any, received: Received) -> None:
    """Whole, cut, broken and unfinished requests, some left without waiting for the responses."""
    seconds = ("header_seconds", "body_seconds", "keep_alive_seconds", "linger_seconds")
    wire = await make_wire(**dict.fromkeys(seconds, 0.2))
    errors: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context.get("exception", context)))
    parts = [FAST, LIVEZ, WITH_BODY, b"\r\n", b"rubbish", FAST[:20], FAST[20:], WITH_BODY[:-3]]
    parts += [WITH_BODY[-3:], FAST[:-2] + b"Connection: close\r\n\r\n"]
    chance = random.Random(0)

    async def visit() -> None:
        async with RawConnection(wire) as connection:
            for part in chance.choices(parts, k=chance.randint(1, 6)):
                connection.send(part)
                if chance.random() < 0.5:
                    await asyncio.sleep(chance.choice([0, 0, 0.001, 0.01]))
            if chance.random() < 0.7:
                await connection.rest()

    for _ in range(10):
        await asyncio.gather(*(visit() for _ in range(30)), return_exceptions=True)
    loop.set_exception_handler(None)
    assert errors == []
    await assert_serves(wire)
