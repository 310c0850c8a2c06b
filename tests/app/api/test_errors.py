"""Errors that any operation can give, and what they may not reveal."""

import json
from typing import Any

import httpx
import pytest

from tests.app.api.helpers import AppOf, problem


async def test_rejected_values_are_not_echoed_raw(client: httpx.AsyncClient) -> None:
    evil = "<script>alert(1)</script>\u202e\x00" + "A" * 10_000
    for params in ({"label": evil}, {evil: "1"}, {"model": evil}):
        answer = await client.post("/generate", params=params)
        assert answer.status_code in (404, 422)
        text = json.dumps(answer.json(), ensure_ascii=False)
        assert "\u202e" not in text
        assert "\x00" not in text
        assert "A" * 100 not in text
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_an_unsupported_accept_type_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/generate", headers={"accept": "image/tiff"})
    assert "image/png" in problem(answer, 406, "not-acceptable")["detail"]


async def test_several_accept_headers_count_as_one(client: httpx.AsyncClient) -> None:
    headers = [("accept", "text/plain"), ("accept", "application/json")]
    answer = await client.get("/generate?seed=1", headers=headers)
    assert answer.headers["content-type"] == "application/json"


async def test_our_own_bug_is_a_neutral_500_and_is_logged_with_the_request_id(
    client: httpx.AsyncClient,
    app_of: AppOf,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("private detail")

    monkeypatch.setattr(app_of(client).state.service.selector, "model", broken)
    answer = await client.get("/models/x", headers={"x-request-id": "my-id.1"})
    assert problem(answer, 500, "internal-error")["request_id"] == "my-id.1"
    assert "private" not in answer.text
    assert "my-id.1" in caplog.text


async def test_a_request_id_of_the_caller_is_kept_only_if_harmless(
    client: httpx.AsyncClient,
) -> None:
    kept = await client.get("/livez", headers={"x-request-id": "abc-1.2_3"})
    assert kept.headers["x-request-id"] == "abc-1.2_3"
    for bad in ("a b", "x" * 65, "<b>"):
        answer = await client.get("/livez", headers={"x-request-id": bad})
        assert answer.headers["x-request-id"] != bad


async def test_unknown_paths_and_methods_are_problems_too(client: httpx.AsyncClient) -> None:
    problem(await client.get("/nothing"), 404, "not-found")
    problem(await client.post("/generate/"), 404, "not-found")
    answer = await client.delete("/generate")
    problem(answer, 405, "method-not-allowed")
    assert "GET" in answer.headers["allow"]
    assert "POST" in answer.headers["allow"]
    metrics = (await client.get("/metrics")).text
    assert 'route="other"' in metrics
    assert "nothing" not in metrics
