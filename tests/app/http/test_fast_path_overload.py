"""The fast path when more requests come than can be served."""

import asyncio
import gc
import json
import math
import weakref
from typing import Any

import pytest
from starlette.datastructures import State

from app import seeds
from app.api.generate import query_reader
from app.api.router import build_router
from app.core.requests import RequestContext
from app.core.service import Service
from app.core.telemetry.metrics import Metrics
from app.http.access import Access, Hosts, Keys
from app.http.fast_path import FastPath
from app.http.fast_request import FastRequestParser, Peer
from app.http.forwarded import TrustedProxies
from app.http.refusal_cache import RefusalCache
from app.settings import Settings

CLIENT = Peer("127.0.0.1", "127.0.0.1")
PAIR = b"POST /generate?label=7&n=2 HTTP/1.1\r\nHost: test\r\n\r\n"
ONE = b"GET /generate?label=7&seed=1 HTTP/1.1\r\nHost: test\r\n\r\n"


class Sender:
    """Gives requests straight to a fast path, and takes the responses.

    Args:
        state: Of the application.
        keep_s: Seconds for which refusals are remembered; long, so that only changes end it.
        slices: Arguments of ``FastPath``.
    """

    def __init__(self, state: State, keep_s: float = 60.0, **slices: Any) -> None:
        metrics: Metrics = state.service.metrics if hasattr(state, "service") else Metrics()
        settings = Settings()
        read_query = query_reader(build_router(settings).routes, settings)
        access = Access(Hosts(), Keys(()))
        self.parser = FastRequestParser(read_query, access, TrustedProxies())
        self.refusals = RefusalCache(metrics, keep_s)
        self.fast_path = FastPath(state, metrics, self.parser, refusals=self.refusals, **slices)
        self.responses: asyncio.Queue[tuple[int, bytes, bytes]] = asyncio.Queue()

    def send(self, data: bytes) -> None:
        request = self.parser.parse(data, CLIENT)
        assert request
        self.fast_path.respond(request, lambda: False, self._respond)

    def _respond(self, *response: Any) -> None:
        self.responses.put_nowait(response)

    async def response(self) -> tuple[int, dict[bytes, bytes], bytes]:
        status, lines, body = await asyncio.wait_for(self.responses.get(), 30)
        headers = dict(line.split(b": ", 1) for line in lines.split(b"\r\n")[:-1])
        return status, headers, body


def queue_pair(service: Service) -> "asyncio.Future[Any]":
    """A request for two images that waits for more."""
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    request = service.generate_request(None, "7", 2, 1, RequestContext(math.inf))
    service.start_generate(request, outcome.set_result)
    return outcome


@pytest.fixture
async def full(make_client: Any, app_of: Any) -> State:
    """The state of an application whose queue is full for a while."""
    client = await make_client(queue_limit=2, max_n=2, max_wait_ms=1000)
    state: State = app_of(client).state
    state.outcome = queue_pair(state.service)
    return state


async def test_requests_that_come_at_once_are_refused_each_with_its_id_and_its_count(
    make_client: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two images fills the queue; of the rest one is looked at, and the others are alike."""
    client = await make_client(queue_limit=2, max_n=2)
    state = app_of(client).state
    sender = Sender(state, slice_s=60.0)
    looked_at = 0
    original = state.service.batcher.begin

    def begin(*arguments: Any) -> Any:
        nonlocal looked_at
        looked_at += 1
        return original(*arguments)

    monkeypatch.setattr(state.service.batcher, "begin", begin)
    for _ in range(5):
        sender.send(PAIR)
    responses = [await sender.response() for _ in range(5)]
    assert [status for status, _, _ in responses] == [503, 503, 503, 503, 200]
    assert looked_at == 2
    assert len({headers[b"x-request-id"] for _, headers, _ in responses}) == 5
    for _, headers, body in responses[:4]:
        assert json.loads(body)["request_id"].encode() == headers[b"x-request-id"]
        assert len(body) == int(headers[b"content-length"])
    sender.refusals.clear()
    counts = state.service.metrics.sums()
    assert counts["genserve_refused_requests_total"] == 4
    assert counts["genserve_requests_total"] == 5
    assert state.service.in_flight == 0


@pytest.mark.slow
async def test_refused_requests_leave_nothing_for_the_garbage_collector(full: State) -> None:
    """In an overload it would stop everything for a tenth of a second, and keep connections."""
    sender = Sender(full)
    request = sender.parser.parse(PAIR, CLIENT)
    assert request
    statuses: list[int] = []

    class Connection:
        def gone(self) -> bool:
            return False

        def respond(self, status: int, *_: bytes) -> None:
            statuses.append(status)

    connections = [Connection() for _ in range(5)]
    gc.collect()
    gc.disable()
    try:
        for connection in connections:
            sender.fast_path.respond(request, connection.gone, connection.respond)
        left = [weakref.ref(connection) for connection in connections]
        del connection
        connections.clear()
        while len(statuses) < 5:  # noqa: ASYNC110  # each turn of the loop may answer some
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [ref() for ref in left] == [None] * 5
    finally:
        gc.enable()
    assert statuses == [503] * 5
    await full.outcome


async def test_what_is_like_a_refused_request_is_refused_until_something_changes(
    full: State,
) -> None:
    sender = Sender(full)
    for _ in range(3):
        sender.send(PAIR)
        assert (await sender.response())[0] == 503
    await full.outcome  # the model is idle now
    sender.send(PAIR)
    assert (await sender.response())[0] == 200


async def test_a_seed_out_of_range_is_reported_though_others_of_its_kind_are_refused(
    full: State,
) -> None:
    sender = Sender(full)
    sender.send(PAIR)
    assert (await sender.response())[0] == 503
    sender.send(PAIR.replace(b"n=2", b"n=2&seed=%d" % seeds.MAX_SEED))
    assert (await sender.response())[0] == 422
    await full.outcome


async def test_a_request_that_is_given_up_makes_room_at_once(make_client: Any, app_of: Any) -> None:
    client = await make_client(queue_limit=2, max_n=2, max_wait_ms=1000)
    service: Service = app_of(client).state.service
    request = service.generate_request(None, "7", 2, 1, RequestContext(math.inf))
    task = asyncio.create_task(service.generate(request))
    await asyncio.sleep(0)
    sender = Sender(app_of(client).state)
    for _ in range(2):
        sender.send(PAIR)
        assert (await sender.response())[0] == 503
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    sender.send(PAIR)
    assert (await sender.response())[0] == 200


async def test_a_stopping_service_says_so_whatever_it_has_refused(
    full: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = Sender(full)
    sender.send(PAIR)
    assert b"the service is stopping" not in (await sender.response())[2]
    monkeypatch.setattr(full.service, "stopping", True)
    sender.send(PAIR)
    assert b"the service is stopping" in (await sender.response())[2]
    await full.outcome


async def test_requests_are_handled_on_arrival_while_there_is_time_in_a_turn(full: State) -> None:
    sender = Sender(full, slice_s=60.0)
    sender.send(PAIR)
    assert not sender.responses.empty()
    sender = Sender(full, slice_s=0.0)
    sender.send(PAIR)
    assert sender.responses.empty()
    assert (await sender.response())[0] == 503
    await full.outcome


async def test_what_arrives_in_masses_is_handled_in_slices(make_client: Any, app_of: Any) -> None:
    client = await make_client(max_wait_ms=100)
    state = app_of(client).state
    sender = Sender(state, slice_s=0.0, max_slice_s=0.0)
    for _ in range(3):
        sender.send(ONE)
    for begun in (1, 2, 3):  # one a turn of the loop
        await asyncio.sleep(0)
        assert state.service.in_flight == begun
    bodies = {(await sender.response())[2] for _ in range(3)}
    assert len(bodies) == 1


async def test_what_goes_wrong_with_one_request_leaves_no_other_waiting(
    full: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    raised: list[Any] = []
    loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
    state = State()  # without a service at first: looking for it raises
    sender = Sender(state, slice_s=0.0)  # all are handled in a later turn
    for _ in range(3):
        sender.send(ONE)
    monkeypatch.setattr(full.service, "stopping", True)
    loop.call_soon(setattr, state, "service", full.service)  # after the first was handled
    for _ in range(2):
        assert (await sender.response())[0] == 503
    loop.set_exception_handler(None)
    assert [type(error) for error in raised] == [AttributeError]
    sender.send(ONE)
    assert (await sender.response())[0] == 503
    await full.outcome
