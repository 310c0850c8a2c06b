"""/livez, /readyz and /metrics, and models that fail or hang."""

import asyncio
import threading
from typing import Any

import httpx
import pytest

from tests.app.api.helpers import AppOf, problem
from tests.conftest import passes


async def test_readiness_lists_the_models(client: httpx.AsyncClient) -> None:
    body = (await client.get("/readyz")).json()
    assert body == {"ready": True, "models": ["tiny-cgan-v1", "tiny-gan-v1", "tiny-vae-v1"]}


async def test_a_model_that_fails_is_500_for_its_request_and_not_ready(
    make_client: Any, app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client()
    service = app_of(client).state.service
    backend = service.models["tiny-gan-v1"].backend

    def broken(*_: Any) -> Any:
        raise RuntimeError("secret weights")

    monkeypatch.setattr(backend, "run", broken)
    answer = await client.get("/generate?model=tiny-gan-v1")
    assert "secret" not in answer.text
    problem(answer, 500, "model-failure")
    ready = await client.get("/readyz")
    assert "tiny-gan-v1" in problem(ready, 503, "not-ready")["detail"]
    assert (await client.get("/generate?label=7")).status_code == 200
    assert (await client.get("/livez")).status_code == 200


async def test_a_model_that_hangs_is_not_ready(
    make_client: Any, app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(threads=2)  # so that no call is made on the event loop
    service = app_of(client).state.service
    free = threading.Event()
    backend = service.models["tiny-gan-v1"].backend
    honest = backend.run

    def hang(*arguments: Any) -> Any:
        assert free.wait(30)
        return honest(*arguments)

    monkeypatch.setattr("app.core.health.CANARY_S", 0.05)
    monkeypatch.setattr(backend, "run", hang)
    try:
        detail = problem(await client.get("/readyz"), 503, "not-ready")["detail"]
        assert "no answer within" in detail
    finally:
        free.set()


async def test_concurrent_requests_share_forward_passes_and_get_their_own_bytes(
    client: httpx.AsyncClient,
) -> None:
    queries = [f"/generate?label={i % 10}&seed={i}&n={1 + i % 3}&format=npy" for i in range(40)]
    alone = [(await client.get(query)).content for query in queries]
    before = passes((await client.get("/metrics")).text)
    together = await asyncio.gather(*(client.get(query) for query in queries))
    assert [answer.content for answer in together] == alone
    assert passes((await client.get("/metrics")).text) - before <= 20  # 79 images, 8 a batch


async def test_a_full_queue_is_503_with_retry_after(make_client: Any, app_of: AppOf) -> None:
    client = await make_client(queue_limit=4, max_n=4)
    answers = await asyncio.gather(*(client.get("/generate?n=4") for _ in range(12)))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused
    for answer in refused:
        body = problem(answer, 503, "overloaded")
        assert int(answer.headers["retry-after"]) == body["retry_after"] >= 1
    assert {answer.status_code for answer in answers} == {200, 503}
    assert app_of(client).state.service.batcher.waiting == 0


async def test_invented_methods_do_not_grow_the_metrics(client: httpx.AsyncClient) -> None:
    for method in ("BREW", "SPILL"):
        problem(await client.request(method, "/generate"), 405, "method-not-allowed")
    metrics = (await client.get("/metrics")).text
    assert "BREW" not in metrics
    assert 'method="other"' in metrics


TEXT, OPEN = "text/plain; version=", "application/openmetrics-text; version=1.0.0"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", f"{TEXT}0.0.4"),
        ("text/plain;version=0.0.4", f"{TEXT}0.0.4"),
        ("text/plain; version=1.0.0; escaping=allow-utf-8", f"{TEXT}1.0.0"),
        ("application/openmetrics-text; version=1.0.0", OPEN),
        ("application/openmetrics-text", OPEN),
        (PROMETHEUS, OPEN),
        # What no such version is: neither repeated nor an error.
        ("text/plain;version=abc", f"{TEXT}0.0.4"),
        ("application/openmetrics-text;version=9.9.9", f"{TEXT}0.0.4"),
        ('application/openmetrics-text;version=1.0.0"<b>', f"{TEXT}0.0.4"),
        ("text/html", f"{TEXT}0.0.4"),
    ],
)
async def test_metrics_come_in_the_format_that_accept_names(
    client: httpx.AsyncClient, accept: str, media: str
) -> None:
    answer = await client.get("/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(media)
    assert "abc" not in answer.headers["content-type"]
    assert answer.text.endswith("# EOF\n") == (media == OPEN)
    assert "genserve_queued_images" in answer.text


async def test_the_names_that_platforms_ask_answer_as_livez(make_client: Any) -> None:
    client = await make_client(api_keys="k" * 16)
    expected = await client.get("/livez")
    for path in ("/health", "/healthz"):
        answer = await client.get(path, headers={"host": "probe.example.com"})
        assert (answer.status_code, answer.json()) == (200, expected.json())
