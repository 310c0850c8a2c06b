"""Liveness and readiness, as probes meet them."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.batching.admission import OverloadError
from tests.conftest import batcher_task

AppOf = Callable[[httpx.AsyncClient], FastAPI]


async def test_a_dead_batcher_turns_liveness_red(client: httpx.AsyncClient) -> None:
    batcher_task().cancel()
    await asyncio.sleep(0)
    live = await client.get("/livez")
    assert live.status_code == 503
    assert "restarted" in live.json()["detail"]
    assert (await client.get("/generate?label=7")).status_code == 503


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
