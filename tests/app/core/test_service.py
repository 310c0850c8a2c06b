"""Deadlines, failing rows and the drain as a client meets them, in process."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.batching.admission import OverloadError
from app.batching.batcher import Batcher
from app.core.lifecycle import drain
from tests.conftest import batcher_task
from training.networks import build
from training.networks.checkpoint import save
from training.networks.configs import VaeConfig
from training.networks.header import Description

AppOf = Callable[[httpx.AsyncClient], FastAPI]

PLAIN = {"accept": "image/png"}  # the short way, over a socket
UNUSUAL = {"accept": "image/png;q=0.9"}  # takes the full route of /generate


async def test_a_deadline_that_is_no_whole_number_is_refused(wire: httpx.AsyncClient) -> None:
    for path in (PLAIN, UNUSUAL):
        for value in ("0", "-1", "+5", "1.5", "1e3", "", "soon", "007", "9" * 5000):
            answer = await wire.post("/generate?label=7", headers={"x-timeout-ms": value, **path})
            assert answer.status_code == 422, value
            assert answer.headers["content-type"] == "application/problem+json"
            (error,) = answer.json()["errors"]
            assert error["pointer"].lower() == "x-timeout-ms"
            assert len(answer.content) < 1000


async def test_a_deadline_given_twice_is_refused(wire: httpx.AsyncClient) -> None:
    for path in (PLAIN, UNUSUAL):
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

    def spy(lane: Any, rows: Any, then: Any, deadline: float, *more: Any) -> Any:
        left.append(deadline - batcher.clock())
        return honest(lane, rows, then, deadline, *more)

    monkeypatch.setattr(batcher, "begin", spy)
    for path in (PLAIN, UNUSUAL):
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


def with_rows(batcher: Batcher[Any, Any, Any], change: Callable[[Any, Any], Any]) -> None:
    """Change each row's result on its way from the model."""
    honest = batcher.calls.run

    def run(lane: Any, rows: list[Any]) -> Sequence[Any]:
        return [change(row, result) for row, result in zip(rows, honest(lane, rows), strict=True)]

    batcher.calls.run = run


async def test_a_row_that_is_not_finite_fails_its_request_alone_and_is_counted(
    client: httpx.AsyncClient, app_of: AppOf
) -> None:
    batcher = app_of(client).state.service.batcher
    with_rows(batcher, lambda row, image: FloatingPointError() if row.seed == 3 else image)
    answers = await asyncio.gather(
        *(client.get(f"/generate?label=7&seed={seed}") for seed in range(8))
    )
    assert [answer.status_code for answer in answers] == [200] * 3 + [500] + [200] * 4
    assert answers[3].json()["type"] == "/problems/not-finite"
    assert (
        'genserve_failed_requests_total{model="tiny-cgan-v1",operation="generate",'
        'reason="not_finite"} 1.0'
    ) in (await client.get("/metrics")).text


async def test_a_row_that_makes_the_model_raise_fails_its_request_alone(
    client: httpx.AsyncClient, app_of: AppOf
) -> None:
    def change(row: Any, image: Any) -> Any:
        if row.seed == 3:
            raise RuntimeError("secret weights")
        return image

    with_rows(app_of(client).state.service.batcher, change)
    answers = await asyncio.gather(
        *(client.get(f"/generate?label=7&seed={seed}") for seed in range(8))
    )
    assert [answer.status_code for answer in answers] == [200] * 3 + [500] + [200] * 4
    assert answers[3].json()["type"] == "/problems/model-failure"
    assert "secret" not in answers[3].text


async def test_a_drain_first_turns_readiness_red_and_then_refuses_new_work(
    client: httpx.AsyncClient, app_of: AppOf
) -> None:
    service = app_of(client).state.service
    assert (await client.get("/readyz")).status_code == 200
    service.health.draining = True
    ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["detail"] == "service: stopping"
    # A load balancer may not have noticed yet.
    assert (await client.get("/generate?label=7")).status_code == 200

    with service.track_request(None):
        draining = asyncio.ensure_future(drain(service, 0.0, 60.0, lambda: False))
        while (answer := await client.get("/generate?label=7")).status_code == 200:
            pass
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/not-ready"
        assert answer.headers["retry-after"]
        assert (await client.get("/livez")).status_code == 200
        assert not draining.done()  # it waits for what was accepted
    await asyncio.wait_for(draining, 10)


async def test_the_drain_ends_at_its_limit_or_when_forced(
    client: httpx.AsyncClient, app_of: AppOf
) -> None:
    service = app_of(client).state.service
    with service.track_request(None):
        await asyncio.wait_for(drain(service, 0.0, 0.05, lambda: False), 10)
        await asyncio.wait_for(drain(service, 60.0, 60.0, lambda: True), 10)


async def test_a_dead_batcher_turns_liveness_red(client: httpx.AsyncClient, app_of: AppOf) -> None:
    batcher_task().cancel()
    await asyncio.sleep(0)
    live = await client.get("/livez")
    assert live.status_code == 503
    assert "restarted" in live.json()["detail"]
    assert (await client.get("/generate?label=7")).status_code == 503


async def test_the_batcher_starts_with_a_measured_rate_for_every_lane(
    client: httpx.AsyncClient, app_of: AppOf
) -> None:
    service = app_of(client).state.service
    lanes = {(n, op) for n in service.models for op in service.engine.operations(n)}
    assert set(service.batcher.admission.rates) == lanes
    assert all(rate > 0 for rate in service.batcher.admission.rates.values())
    metrics = (await client.get("/metrics")).text
    assert metrics.count("genserve_images_per_second{") == len(lanes)


async def test_status_tells_queue_counts_and_costs(client: httpx.AsyncClient) -> None:
    before = (await client.get("/status")).json()
    assert (await client.post("/generate?label=7&n=5")).status_code == 200
    told = (await client.get("/status")).json()
    assert told["images"] == before["images"] + 5
    assert told["forward_passes"] == before["forward_passes"] + 1
    assert told["requests"] == before["requests"] + 2  # the first /status is counted by now
    assert told["processes"] == 1
    assert told["queued_images"] == told["requests_in_flight"] == told["refused_requests"] == 0
    assert not told["draining"]
    assert set(told["models"]) == {"tiny-cgan-v1", "tiny-gan-v1", "tiny-vae-v1"}
    assert set(told["models"]["tiny-vae-v1"]["operations"]) == {"generate", "decode", "encode"}
    for model in told["models"].values():
        assert {operation["max_batch"] for operation in model["operations"].values()} == {8}
        assert model["reproducibility"] == "exact"
        for operation in model["operations"].values():
            assert operation["images_per_second"] > 0
            sizes = [cost["images"] for cost in operation["passes"]]
            assert sizes == sorted(set(sizes))
            assert all(cost["milliseconds"] > 0 for cost in operation["passes"])


async def test_readiness_is_not_lost_to_being_busy(
    client: httpx.AsyncClient, app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> Any:
        raise OverloadError("wait", 2.0, 1.0, 2)

    monkeypatch.setattr(app_of(client).state.service.batcher, "submit", full)
    assert (await client.get("/readyz")).status_code == 200
    answer = await client.get("/generate?label=7")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert "2.00 s" in answer.json()["detail"]


async def test_without_a_name_the_vae_that_reconstructs_best_encodes(
    make_client: Any, tmp_path: Path
) -> None:
    config = VaeConfig(latent_dim=3, channels=(4, 4), hidden=8)
    for name, metrics in (
        ("a-vae-v1", {}),
        ("b-vae-v1", {"reconstruction_mse": 0.02}),
        ("c-vae-v1", {"reconstruction_mse": 0.01}),
    ):
        network = build("vae", config).eval()
        save(tmp_path / f"{name}.safetensors", network, Description("vae", config, metrics=metrics))
    client = await make_client(models_dir=tmp_path, engine="torch")
    assert (await client.get("/models")).json()["default_encoder"] == "c-vae-v1"
    answer = await client.post("/decode", json={"z": [[0, 0, 0]]})
    assert answer.headers["x-model"] == "c-vae-v1"
