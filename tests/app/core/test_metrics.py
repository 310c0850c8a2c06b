"""Rates and counts, as /metrics and /status report them."""

from collections.abc import Callable

import httpx
from fastapi import FastAPI

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
