"""The deadline of a request, as a client states it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.app.full_route import FULL_ROUTE

AppOf = Callable[[httpx.AsyncClient], FastAPI]
INFER = {
    "inputs": [{"name": "seed", "shape": [64], "datatype": "INT64", "data": list(range(64))}],
    "outputs": [{"name": "image"}],
}
PLAIN = {"accept": "image/png"}  # takes the fast path, over a socket


async def test_a_deadline_that_is_no_whole_number_is_refused(wire: httpx.AsyncClient) -> None:
    for path in (PLAIN, FULL_ROUTE):
        for value in ("0", "-1", "+5", "1.5", "1e3", "", "soon", "007", "9" * 5000):
            answer = await wire.post("/generate?label=7", headers={"x-timeout-ms": value, **path})
            assert answer.status_code == 422, value
            assert answer.headers["content-type"] == "application/problem+json"
            (error,) = answer.json()["errors"]
            assert error["pointer"].lower() == "x-timeout-ms"
            assert len(answer.content) < 1000


async def test_a_deadline_given_twice_is_refused(wire: httpx.AsyncClient) -> None:
    for path in (PLAIN, FULL_ROUTE):
        headers = [("x-timeout-ms", "500"), ("x-timeout-ms", "900"), *path.items()]
        answer = await wire.post("/generate?label=7", headers=headers)
        assert answer.status_code == 422
        assert "2 times" in answer.json()["detail"]


async def test_the_deadline_is_the_headers_but_never_over_the_services_own(
    make_wire: Any, app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_wire(max_timeout_ms=20_000)
    batcher = app_of(client).state.service.batcher
    left: list[float] = []
    honest = batcher.begin

    def spy(key: Any, rows: Any, then: Any, deadline: float, *more: Any) -> Any:
        left.append(deadline - batcher.clock())
        return honest(key, rows, then, deadline, *more)

    monkeypatch.setattr(batcher, "begin", spy)
    for path in (PLAIN, FULL_ROUTE):
        for value in ("7000", "999999999999", None):
            given = {} if value is None else {"x-timeout-ms": value}
            answer = await client.get("/generate?label=7&seed=1", headers=given | path)
            assert answer.status_code == 200
    assert [round(seconds) for seconds in left] == [7, 20, 20] * 2


async def test_every_operation_that_computes_states_the_header_and_504(
    client: httpx.AsyncClient,
) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    for path in ("/generate", "/encode", "/decode", "/reconstruct"):
        for operation in paths[path].values():
            (header,) = [p for p in operation["parameters"] if p["in"] == "header"]
            assert header["name"] == "X-Timeout-Ms"
            assert {"503", "504"} <= set(operation["responses"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate?n=64&scale=8&format=json", None),
        ("/generate?n=64&scale=8&format=zip", None),
        ("/v2/models/tiny-cgan-v1/infer", INFER),
    ],
)
async def test_the_deadline_is_that_of_writing_a_large_response_too(
    make_client: Any, app_of: AppOf, monkeypatch: pytest.MonkeyPatch, path: str, body: object
) -> None:
    client = await make_client()
    service = app_of(client).state.service
    answer = await client.post(path, json=body)
    assert answer.status_code == 200
    honest, late = service.batcher.clock, 0.0
    submit = service.batcher.submit

    async def then_late(*given: Any) -> Any:
        nonlocal late
        found = await submit(*given)
        late = 31.0
        return found

    monkeypatch.setattr(service.batcher, "submit", then_late)
    monkeypatch.setattr(service.batcher, "clock", lambda: honest() + late)
    answer = await client.post(path, json=body)
    assert answer.status_code == 504, answer.text[:200]
    assert "was not written in the time" in answer.text
