"""Rates and counts, as /metrics and /status report them."""

import platform
import time
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI

from app import __version__
from app.core.telemetry.metrics import Metrics
from tests.app.full_route import FULL_ROUTE
from tests.conftest import MakeClient

PROCESS = (
    *("cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes"),
    *("open_fds", "max_fds", "start_time_seconds"),
)
AppOf = Callable[[httpx.AsyncClient], FastAPI]


async def test_the_batcher_starts_with_a_measured_rate_for_every_operation(
    client: httpx.AsyncClient, app_of: AppOf
) -> None:
    service = app_of(client).state.service
    keys = {(n, op) for n in service.models for op in service.engine.operations(n)}
    assert set(service.batcher.admission.rates) == keys
    assert all(rate > 0 for rate in service.batcher.admission.rates.values())
    metrics = (await client.get("/metrics")).text
    assert metrics.count("genserve_images_per_second{") == len(keys)


async def test_status_reports_queue_counts_and_costs(client: httpx.AsyncClient) -> None:
    before = (await client.get("/status")).json()
    assert (await client.post("/generate?label=7&n=5")).status_code == 200
    after = (await client.get("/status")).json()
    assert after["images"] == before["images"] + 5
    assert after["forward_passes"] == before["forward_passes"] + 1
    assert after["requests"] == before["requests"] + 2  # the first /status is counted by now
    assert after["processes"] == 1
    assert after["queued_images"] == after["requests_in_flight"] == after["refused_requests"] == 0
    assert not after["draining"]
    assert set(after["models"]) == {"tiny-cgan-v1", "tiny-gan-v1", "tiny-vae-v1"}
    assert set(after["models"]["tiny-vae-v1"]["operations"]) == {"generate", "decode", "encode"}
    for model in after["models"].values():
        assert {operation["max_batch"] for operation in model["operations"].values()} == {8}
        assert model["reproducibility"] == "exact"
        for operation in model["operations"].values():
            assert operation["images_per_second"] > 0
            sizes = [cost["images"] for cost in operation["passes"]]
            assert sizes == sorted(set(sizes))
            assert all(cost["milliseconds"] > 0 for cost in operation["passes"])


def series(text: str) -> dict[str, float]:
    """Every line of /metrics."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


async def test_series_are_there_at_zero_before_their_first_event(make_client: MakeClient) -> None:
    found = series((await (await make_client()).get("/metrics")).text)
    of = 'model="tiny-cgan-v1",operation="generate"'
    for name in (
        'genserve_requests_total{method="GET",route="/generate",status="500"}',
        'genserve_requests_total{method="POST",route="/v2/models/{model}/infer",status="503"}',
        'genserve_request_seconds_count{method="GET",route="/generate",status="200"}',
        f'genserve_refused_requests_total{{{of},reason="share"}}',
        f'genserve_dropped_images_total{{{of},reason="expired"}}',
        f'genserve_failed_requests_total{{{of},reason="not_finite"}}',
        f"genserve_queue_seconds_count{{{of}}}",
        f"genserve_batch_images_count{{{of}}}",
        f"genserve_images_total{{{of}}}",
    ):
        assert found[name] == 0, name
    version, python = __version__, platform.python_version()
    assert found[f'genserve_build_info{{python="{python}",version="{version}"}}'] == 1


@pytest.mark.parametrize("route", [{}, FULL_ROUTE], ids=["fast path", "full route"])
async def test_requests_are_timed_on_both_paths(
    make_wire: MakeClient, route: dict[str, str]
) -> None:
    client = await make_wire()
    for _ in range(3):
        assert (await client.get("/generate?label=7", headers=route)).status_code == 200
    assert (await client.get("/generate?label=70", headers=route)).status_code == 422
    found = series((await client.get("/metrics")).text)
    of = 'model="tiny-cgan-v1",operation="generate"'
    for status, count in ((200, 3), (422, 1)):
        labels = f'{{method="GET",route="/generate",status="{status}"}}'
        assert found[f"genserve_requests_total{labels}"] == count
        assert found[f"genserve_request_seconds_count{labels}"] == count
        assert 0 < found[f"genserve_request_seconds_sum{labels}"] < 60
    assert found[f"genserve_queue_seconds_count{{{of}}}"] == 3
    assert 0 <= found[f"genserve_queue_seconds_sum{{{of}}}"] < 60
    assert found[f'genserve_batch_images_bucket{{le="1.0",{of}}}'] == 3


async def test_what_the_process_uses_is_reported(make_client: MakeClient) -> None:
    found = series((await (await make_client()).get("/metrics")).text)
    own = {name: found[f'process_{name}{{worker="0"}}'] for name in PROCESS}
    assert own["cpu_seconds_total"] > 0
    assert 2**20 < own["resident_memory_bytes"] < own["virtual_memory_bytes"]
    assert 0 < own["open_fds"] < own["max_fds"]
    assert time.time() - 3600 < own["start_time_seconds"] <= time.time()


def test_figures_of_a_card_are_metrics() -> None:
    metrics = Metrics()
    metrics.card("a", {"frechet_test_ratio": 1.5, "recall": True, "unknown": 1.0, "kid_test": "x"})
    found = series(metrics.text()[0].decode())
    assert found['genserve_model_figure{figure="frechet_test_ratio",model="a"}'] == 1.5
    assert sum(name.startswith("genserve_model_figure{") for name in found) == 1
