"""What is refused without asking the queue again, for how long, and how it is counted."""

import asyncio
import json
from typing import Any

import pytest

from app import seeds
from app.core.telemetry.metrics import Metrics
from app.errors import OverloadedError
from app.http.fast_request import FastRequest
from app.http.refusal_cache import RefusalCache
from app.rendering.image_query import ImageQuery

CLIENT = "127.0.0.1"
QUERY = ImageQuery(label="7", n=2)
REQUEST = FastRequest("GET", QUERY, CLIENT)
ERROR = OverloadedError("the queue is full", retry_after_s=1)


class Responses(list[tuple[int, bytes, bytes]]):
    def __call__(self, status: int, lines: bytes, body: bytes) -> None:
        self.append((status, lines, body))


def add(cache: RefusalCache, request: FastRequest = REQUEST, changes: int = 1) -> None:
    cache.add(request, changes, ERROR, ("tiny-gan-v1", "generate"), "queue")


async def test_each_refused_request_gets_the_response_with_an_id_of_its_own() -> None:
    cache, responses = RefusalCache(Metrics()), Responses()
    assert not cache.respond(REQUEST, 1, responses, 0.0)
    add(cache)
    for _ in range(3):
        assert cache.respond(REQUEST, 1, responses, 0.0)
    ids = set()
    for status, lines, body in responses:
        headers = dict(line.split(b": ", 1) for line in lines.split(b"\r\n")[:-1])
        problem = json.loads(body)
        assert (status, problem["detail"]) == (503, "the queue is full")
        assert problem["request_id"].encode() == headers[b"x-request-id"]
        assert (int(headers[b"content-length"]), headers[b"retry-after"]) == (len(body), b"1")
        ids.add(problem["request_id"])
    assert len(ids) == 3


def asking(**changes: Any) -> FastRequest:
    """The request with other parameters."""
    return REQUEST._replace(query=QUERY._replace(**changes))


@pytest.mark.parametrize(
    "other",
    [
        REQUEST._replace(method="POST"),
        asking(model="tiny-gan-v1"),
        asking(label="8"),
        asking(n=1),
        asking(truncation=0.5),
        REQUEST._replace(client="127.0.0.2"),
        REQUEST._replace(root="/api"),
        REQUEST._replace(timeout_ms=100),
        REQUEST._replace(request_id="mine"),
        asking(seed=seeds.MAX_SEED),  # the second image's is out of range
    ],
)
async def test_a_request_of_another_kind_is_not_refused(other: FastRequest) -> None:
    cache, responses = RefusalCache(Metrics()), Responses()
    add(cache)
    assert cache.respond(asking(seed=5), 1, responses, 0.0)
    assert not cache.respond(other, 1, responses, 0.0)
    assert len(responses) == 1


@pytest.mark.parametrize(
    "own",
    [
        REQUEST._replace(timeout_ms=100),
        REQUEST._replace(request_id="mine"),
        asking(seed=seeds.MAX_SEED),
    ],
)
async def test_a_response_that_is_one_requests_own_is_not_remembered(own: FastRequest) -> None:
    cache, responses = RefusalCache(Metrics()), Responses()
    add(cache, own)
    assert not cache.respond(REQUEST, 1, responses, 0.0)


async def test_nothing_is_refused_any_more_once_the_queue_has_changed() -> None:
    cache, responses = RefusalCache(Metrics()), Responses()
    add(cache)
    assert not cache.respond(REQUEST, 2, responses, 0.0)
    assert not cache.respond(REQUEST, 1, responses, 0.0)
    assert not responses


async def test_refusals_are_counted_together_when_their_time_is_up() -> None:
    metrics = Metrics()
    cache, responses = RefusalCache(metrics, keep_s=0.01), Responses()
    add(cache)
    for _ in range(3):
        assert cache.respond(REQUEST, 1, responses, 0.0)
    assert "genserve_refused_requests_total" not in metrics.sums()
    forgotten = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.02, forgotten.set_result, None)
    await forgotten
    assert not cache.respond(REQUEST, 1, responses, 0.0)
    assert metrics.sums()["genserve_refused_requests_total"] == 3
    assert metrics.sums()["genserve_requests_total"] == 3


async def test_one_timer_forgets_what_was_refused_last(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []
    original = loop.call_later

    def call_later(*arguments: Any) -> asyncio.TimerHandle:
        timers.append(original(*arguments))
        return timers[-1]

    cache = RefusalCache(Metrics(), keep_s=60.0)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "call_later", call_later)
        add(cache)
        add(cache, asking(n=1))
        assert len(timers) == 1
        add(cache, changes=2)
    assert [timer.cancelled() for timer in timers] == [True, False]
    cache.clear()
    assert timers[1].cancelled()
