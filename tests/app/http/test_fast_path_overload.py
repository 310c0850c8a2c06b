"""The short way of plain requests when there are more than can be served."""

import asyncio
import gc
import json
import math
import weakref
from typing import Any

import pytest
from starlette.datastructures import State

from app import seeds
from app.core.metrics import Metrics
from app.core.requests import RequestContext
from app.core.service import Service
from app.errors import NotReadyError
from app.http import fast_path as lean
from app.http.access import Hosts
from app.http.fast_path import Plain


def headers_of(lines: bytes) -> dict[bytes, bytes]:
    return dict(line.split(b": ", 1) for line in lines.split(b"\r\n")[:-1])


def plain_of(seed: int | None) -> Plain:
    return Plain("GET", None, None, 1, seed, None, None)


async def test_requests_that_come_at_once_are_refused_each_with_its_id_and_its_count(
    make_client: Any, app_of: Any
) -> None:
    """One of two images fills the queue; of the rest one is looked at, and the others are alike."""
    client = await make_client(queue_limit=2, max_n=2)
    state = app_of(client).state
    answers: list[tuple[int, dict[bytes, bytes], bytes]] = []
    plain = state.lean.parse(b"POST /generate?label=7&n=2 HTTP/1.1\r\nHost: test\r\n\r\n")
    looked_at = 0
    honest = state.service.batcher.begin

    def begin(*arguments: Any) -> Any:
        nonlocal looked_at
        looked_at += 1
        return honest(*arguments)

    state.service.batcher.begin = begin
    for _ in range(5):
        state.lean.ask(
            plain,
            "127.0.0.1",
            lambda: False,
            lambda status, lines, body: answers.append((status, headers_of(lines), body)),
        )
    assert not [status for status, _, _ in answers if status == 200]  # the model has its turn first
    while len(answers) < 5:  # noqa: ASYNC110  # as a client waits
        await asyncio.sleep(0.001)
    assert sorted(status for status, _, _ in answers) == [200, 503, 503, 503, 503]
    assert looked_at == 2
    refused = [(headers, body) for status, headers, body in answers if status == 503]
    assert len({headers[b"x-request-id"] for headers, _ in refused}) == 4
    for headers, body in refused:
        assert json.loads(body)["request_id"].encode() == headers[b"x-request-id"]
        assert len(body) == int(headers[b"content-length"])
    await asyncio.sleep(0.1)  # they are counted together, soon
    counts = state.service.metrics.sums()
    assert counts["genserve_refused_requests_total"] == 4
    assert counts["genserve_requests_total"] == 5
    assert state.service.in_flight == 0


async def test_refused_requests_leave_nothing_for_the_garbage_collector(
    make_client: Any, app_of: Any
) -> None:
    """In an overload it would stop everything for a tenth of a second, and keep connections."""
    client = await make_client(queue_limit=2, max_n=2)
    state = app_of(client).state
    plain = state.lean.parse(b"POST /generate?label=7&n=2 HTTP/1.1\r\nHost: test\r\n\r\n")
    statuses: list[int] = []

    class Connection:
        def gone(self) -> bool:
            return False

        def answer(self, status: int, *_: bytes) -> None:
            statuses.append(status)

    connections = [Connection() for _ in range(5)]
    gc.collect()
    gc.disable()
    try:
        for one in connections:
            state.lean.ask(plain, "127.0.0.1", one.gone, one.answer)
        while len(statuses) < 5:  # noqa: ASYNC110  # as a client waits
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        left = [weakref.ref(one) for one in connections]
        del one
        connections.clear()
        assert [ref() for ref in left[1:]] == [None] * 4  # the first is answered with images
    finally:
        gc.enable()
    assert sorted(statuses) == [200, 503, 503, 503, 503]


async def _queued(service: Service) -> "asyncio.Task[Any]":
    """A request for two images that waits for more."""
    order = service.generate_request(None, "7", 2, 1, RequestContext(math.inf))
    waits = asyncio.create_task(service.generate(order))
    while not service.batcher.waiting:  # noqa: ASYNC110
        await asyncio.sleep(0)
    return waits


async def _refused(state: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    """A service that has just refused a request, two images being made, and remembers it for as
    long as nothing changes; how to ask again, and the answers."""
    monkeypatch.setattr(lean, "_MOST_SLICE_S", 60.0)
    plain = state.lean.parse(b"POST /generate?label=7&n=2 HTTP/1.1\r\nHost: test\r\n\r\n")
    answers: list[Any] = []

    def ask() -> None:
        state.lean.ask(plain, "127.0.0.1", lambda: False, lambda *answer: answers.append(answer))

    ask()
    ask()
    while not answers:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert answers[0][0] == 503
    return ask, answers


async def test_what_is_like_a_refused_request_is_refused_until_something_changes(
    make_client: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(queue_limit=2, max_n=2)
    state = app_of(client).state
    ask, answers = await _refused(state, monkeypatch)
    while len(answers) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert answers[1][0] == 200  # the model is idle now
    ask()
    while len(answers) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert answers[2][0] == 200


async def test_a_seed_out_of_range_is_told_so_though_others_of_its_kind_are_refused(
    make_client: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(queue_limit=2, max_n=2, max_wait_ms=1000)
    state = app_of(client).state
    waits = await _queued(state.service)
    _, answers = await _refused(state, monkeypatch)
    wrong = f"POST /generate?label=7&n=2&seed={seeds.MAX_SEED} HTTP/1.1\r\nHost: test\r\n\r\n"
    before = len(answers)
    state.lean.ask(
        state.lean.parse(wrong.encode()),
        *("127.0.0.1", lambda: False, lambda *answer: answers.append(answer)),
    )
    while len(answers) == before:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert answers[-1][0] == 422
    await waits


async def test_one_timer_forgets_what_was_refused_last(
    make_client: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(queue_limit=2, max_n=2, max_wait_ms=1000)
    state = app_of(client).state
    service: Service = state.service
    waits = await _queued(service)
    ask, answers = await _refused(state, monkeypatch)
    first = state.lean._forgets
    service.batcher.changes += 1
    before = len(answers)
    ask()
    while len(answers) == before:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert [answer[0] for answer in answers] == [503] * (before + 1)
    assert first.cancelled()
    assert not state.lean._forgets.cancelled()
    await waits


async def test_a_request_that_is_given_up_makes_room_at_once(
    make_client: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(queue_limit=2, max_n=2, max_wait_ms=1000)
    state = app_of(client).state
    service: Service = state.service
    waits = await _queued(service)
    monkeypatch.setattr(lean, "_MOST_SLICE_S", 60.0)
    plain = state.lean.parse(b"POST /generate?label=7&n=2 HTTP/1.1\r\nHost: test\r\n\r\n")
    answers: list[int] = []
    for _ in range(2):
        state.lean.ask(plain, None, lambda: False, lambda *answer: answers.append(answer[0]))
        await asyncio.sleep(0)
    assert answers == [503, 503]
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    while state.service.batcher.waiting:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    state.lean.ask(plain, None, lambda: False, lambda *answer: answers.append(answer[0]))
    while len(answers) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert answers[2] == 200


async def test_a_stopping_service_says_so_whatever_it_has_refused(
    make_client: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(queue_limit=2, max_n=2)
    state = app_of(client).state
    ask, answers = await _refused(state, monkeypatch)
    monkeypatch.setattr(state.service, "stopping", True)
    ask()
    while len(answers) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert sum(b"the service is stopping" in answer[2] for answer in answers) == 1


async def test_refusing_leaves_the_event_loop_its_turn(
    make_client: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(queue_limit=2, max_n=2)
    state = app_of(client).state
    ask, answers = await _refused(state, monkeypatch)
    before = len(answers)
    ask()
    assert len(answers) == before + 1  # at once
    monkeypatch.setattr(lean, "_SLICE_S", 0.0)
    await asyncio.sleep(0)
    before = len(answers)
    ask()
    assert len(answers) == before  # there was no time left
    while len(answers) == before:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_what_arrives_in_masses_is_looked_at_in_slices(
    make_client: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lean, "_SLICE_S", 0.0)
    monkeypatch.setattr(lean, "_MOST_SLICE_S", 0.0)
    client = await make_client(max_wait_ms=100)
    state = app_of(client).state
    plain = state.lean.parse(b"GET /generate?label=7&seed=1 HTTP/1.1\r\nHost: test\r\n\r\n")
    answers: list[bytes] = []
    for _ in range(3):
        state.lean.ask(plain, None, lambda: False, lambda *answer: answers.append(answer[2]))
    for taken in (1, 2, 3):  # one a turn of the loop
        await asyncio.sleep(0)
        assert state.service.in_flight == taken
    while len(answers) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert len(set(answers)) == 1


async def test_what_goes_wrong_with_one_request_leaves_no_other_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lean, "_SLICE_S", 0.0)  # all are looked at in a later turn
    loop = asyncio.get_running_loop()
    raised: list[Any] = []
    loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
    state = State()  # without a service: looking for it raises
    short = lean.Lean(state, Metrics(None), 64, Hosts().allows, open_to_all=True)
    plain = short.parse(b"GET /generate?label=7 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert plain
    answers: list[int] = []

    class Stopping:
        def begin_request(self, *_: Any) -> None:
            raise NotReadyError("the service is stopping", retry_after_s=1)

    def answer(status: int, *_: Any) -> None:
        answers.append(status)

    for _ in range(3):
        short.ask(plain, None, lambda: False, answer)
    loop.call_soon(setattr, state, "service", Stopping())  # after the first has been looked at
    for _ in range(5):
        await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert [type(error) for error in raised] == [AttributeError]
    assert answers == [503, 503]
    short.ask(plain, None, lambda: False, answer)
    await asyncio.sleep(0.01)
    assert answers == [503, 503, 503]
