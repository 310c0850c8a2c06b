"""The drain, as a client meets it."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
from fastapi import FastAPI

from app.core.lifecycle import drain

AppOf = Callable[[httpx.AsyncClient], FastAPI]


async def test_a_drain_first_turns_readiness_red_and_then_refuses_new_work(
    make_client: Any, app_of: AppOf
) -> None:
    client = await make_client()
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


async def test_the_drain_ends_at_its_limit_or_when_forced(make_client: Any, app_of: AppOf) -> None:
    service = app_of(await make_client()).state.service
    with service.track_request(None):
        await asyncio.wait_for(drain(service, 0.0, 0.05, lambda: False), 10)
        await asyncio.wait_for(drain(service, 60.0, 60.0, lambda: True), 10)
