"""The table of bad input, in process and over a socket: each is answered as it says, and leaves the
service as it was."""

import asyncio
import gc
import http.client
import json
import re
import socket
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings
from tests.hostile import CASES, MAX_BODY_BYTES, MAX_PIXELS, Case

CANARY = Case("canary", "/generate?label=7&seed=42", 200, method="GET")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
async def served(tiny_store: Path) -> AsyncIterator[FastAPI]:
    limits: Any = {"max_body_bytes": MAX_BODY_BYTES, "max_pixels": MAX_PIXELS}
    app = create_app(Settings(models_dir=tiny_store, max_batch=8, **limits))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture(scope="module")
def service(start_server: Any, tiny_store: Path) -> Iterator[str]:
    """Host and port of a real one, of two processes."""
    limits = ["--max-body-bytes", str(MAX_BODY_BYTES), "--max-pixels", str(MAX_PIXELS)]
    options = ["--models-dir", str(tiny_store), "--max-batch", "8", "--workers", "2"]
    with start_server(*options, *limits) as server:
        yield urlsplit(server.url).netloc


async def called(app: FastAPI, case: Case) -> Answer:
    """What the application answers to exactly these bytes. Nothing of the request is left for the
    garbage collector, which comes by so rarely that bodies would fill the memory."""
    gone = asyncio.Event()
    gc.disable()
    try:
        messages, _held = await _called(app, case, gone)
        async with asyncio.timeout(5):  # until the batcher and processes that end have let go
            await gone.wait()
    finally:
        gc.enable()
    headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
    return Answer(messages[0]["status"], headers, b"".join(part["body"] for part in messages[1:]))


async def _called(
    app: FastAPI, case: Case, gone: asyncio.Event
) -> tuple[list[Any], weakref.ref[Any]]:
    """The messages sent, and what sets ``gone`` when the application holds nothing more."""
    path, _, query = case.target.partition("?")
    given = [("host", "test"), ("content-length", str(len(case.body))), *case.headers]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": case.method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in given],
        "state": {},
    }
    parts = iter([{"type": "http.request", "body": case.body, "more_body": False}])
    messages: list[Any] = []

    async def receive() -> Any:
        if (part := next(parts, None)) is None:
            await asyncio.Event().wait()
        return part

    async def send(message: Any) -> None:
        messages.append(message)

    await app(scope, receive, send)
    loop = asyncio.get_running_loop()
    return messages, weakref.ref(receive, lambda _: loop.call_soon_threadsafe(gone.set))


def sent(address: str, case: Case) -> Answer:
    """What the service answers to exactly these bytes."""
    host, _, port = address.partition(":")
    lines = [f"{case.method} {case.target} HTTP/1.1", "Host: test", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in case.headers]
    lines += [f"Content-Length: {len(case.body)}", "", ""]
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall("\r\n".join(lines).encode() + case.body)
        answer = http.client.HTTPResponse(connection, method=case.method)
        answer.begin()
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, headers, answer.read())


def check(answer: Answer, case: Case) -> None:
    assert answer.status == case.status, answer.body[:500]
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answer.headers["x-request-id"])
    if not case.slug:
        return
    assert answer.headers["content-type"] == "application/problem+json"
    problem = json.loads(answer.body)
    assert problem["type"] == f"/problems/{case.slug}"
    assert problem["status"] == case.status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert case.says in problem["detail"]
    # Nothing comes back raw, or at length.
    assert len(answer.body) < 4000
    assert answer.body.isascii()
    assert not re.search(rb"[\x00-\x1f\x7f]", answer.body)


@pytest.fixture(scope="module")
async def canary(served: FastAPI) -> bytes:
    """What a good request gets, in this process and any other."""
    answer = await called(served, CANARY)
    check(answer, CANARY)
    return answer.body


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_bad_input_is_answered_as_the_table_says_and_harms_nobody(
    served: FastAPI, service: str, canary: bytes, case: Case
) -> None:
    check(await called(served, case), case)
    assert (await called(served, CANARY)).body == canary
    check(await asyncio.to_thread(sent, service, case), case)
    assert (await asyncio.to_thread(sent, service, CANARY)).body == canary


def test_after_all_of_it_the_service_is_well(service: str) -> None:
    busy = True
    ends = time.monotonic() + 30
    while busy:  # each process tells the others once a second
        assert time.monotonic() < ends
        status = json.loads(sent(service, Case("", "/status", 200, method="GET")).body)
        busy = (status["requests_in_flight"], status["queued_images"]) != (0, 0)
    metrics = sent(service, Case("", "/metrics", 200, method="GET")).body.decode()
    counts = re.findall(r'^genserve_requests_total\{.*status="(\d+)"\} (.*)$', metrics, re.M)
    assert not [count for status, count in counts if status == "500" and float(count)]
    assert [count for status, count in counts if status == "200" and float(count)]
    # Strangers have not grown what is counted.
    counted = re.findall(r'^genserve_requests_total\{.*route="([^"]*)".*\} (.*)$', metrics, re.M)
    routes = {route for route, count in counted if float(count)}
    assert routes <= {
        *("/generate", "/encode", "/decode", "/reconstruct", "/verify", "/models/{name}"),
        *("/interpolate", "/traverse", "/problems/{slug}", "/status", "/metrics", "/static"),
        "other",
    }
