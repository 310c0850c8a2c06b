"""Overload, deadlines, a stop, a bug and callers that leave, by the Open Inference Protocol."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from app.batching.ticket import DeadlineError
from app.core.lifecycle import drain
from tests.app.oip.helpers import CGAN, AppOf, is_right, refused, seven


async def test_overload_is_503_with_retry_after(make_client: Any) -> None:
    client = await make_client(queue_limit=4, max_n=4)
    body = {"inputs": [], "parameters": {"n": 4}}
    answers = await asyncio.gather(*(client.post(f"{CGAN}/infer", json=body) for _ in range(12)))
    full = [answer for answer in answers if answer.status_code == 503]
    assert full
    for answer in full:
        assert "try again in" in refused(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
    assert {answer.status_code for answer in answers} == {200, 503}
    await is_right(client)


async def test_a_deadline_that_passes_is_504(
    client: httpx.AsyncClient, app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = app_of(client).state.service.batcher
    left = []

    async def late(key: Any, rows: Any, deadline: float, *_: Any) -> Any:
        left.append(deadline - batcher.clock())
        raise DeadlineError

    monkeypatch.setattr(batcher, "submit", late)
    headers = {"x-timeout-ms": "7000"}
    answer = await client.post(f"{CGAN}/infer", json=seven(), headers=headers)
    assert "X-Timeout-Ms" in refused(answer, 504)
    assert [round(seconds) for seconds in left] == [7]


async def test_a_stopping_service_refuses_with_503(make_client: Any, app_of: AppOf) -> None:
    client = await make_client()
    await drain(app_of(client).state.service, 0.0, 0.0, lambda: True)
    answer = await client.post(f"{CGAN}/infer", json=seven())
    assert "stopping" in refused(answer, 503)
    assert answer.headers["retry-after"]


async def test_a_bug_of_ours_is_a_neutral_500(
    client: httpx.AsyncClient, app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Any:
        raise KeyError("private detail")

    with monkeypatch.context() as patch:
        patch.setattr(app_of(client).state.service, "sample", broken)
        answer = await client.post(f"{CGAN}/infer", json=seven())
    assert "private" not in refused(answer, 500)
    await is_right(client)


async def test_a_client_that_has_left_is_not_worked_for(make_client: Any, app_of: AppOf) -> None:
    """The ASGI server's word that the connection is closed reaches the batcher."""
    client = await make_client()
    app = app_of(client)
    body = json.dumps(seven()).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{CGAN}/infer",
        "raw_path": f"{CGAN}/infer".encode(),
        "query_string": b"",
        "headers": [(b"host", b"test")],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("test", 80),
        "client": ("test", 1),
        "root_path": "",
    }
    await app(scope, receive, send)
    assert not sent
    metrics = (await client.get("/metrics")).text
    assert 'route="/v2/models/{model}/infer",status="499"} 1.0' in metrics
