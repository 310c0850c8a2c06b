"""Rows on which a model fails, as their clients meet it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from app.engines.engine import Engine
from app.engines.rows import Sample

MakeClient = Callable[..., Any]


def change_seed_3(monkeypatch: pytest.MonkeyPatch, change: Callable[[], Any]) -> None:
    """Let a model return ``change()`` for the image of seed 3."""
    honest = Engine.run

    def run(engine: Engine, key: Any, rows: Sequence[Any]) -> list[Any]:
        results = honest(engine, key, rows)
        return [
            change() if isinstance(row, Sample) and row.seed == 3 else result
            for row, result in zip(rows, results, strict=True)
        ]

    monkeypatch.setattr(Engine, "run", run)


async def ask_for_seeds_0_to_7(client: httpx.AsyncClient) -> list[httpx.Response]:
    """Eight requests, of which that for seed 3 fails alone."""
    answers = await asyncio.gather(
        *(client.get(f"/generate?label=7&seed={seed}") for seed in range(8))
    )
    assert [answer.status_code for answer in answers] == [200] * 3 + [500] + [200] * 4
    return answers


async def test_a_row_that_is_not_finite_fails_its_request_alone_and_is_counted(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_seed_3(monkeypatch, FloatingPointError)
    client = await make_client()
    answers = await ask_for_seeds_0_to_7(client)
    assert answers[3].json()["type"] == "/problems/not-finite"
    assert (
        'genserve_failed_requests_total{model="tiny-cgan-v1",operation="generate",'
        'reason="not_finite"} 1.0'
    ) in (await client.get("/metrics")).text


async def test_a_row_that_makes_the_model_raise_fails_its_request_alone(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise RuntimeError("secret weights")

    change_seed_3(monkeypatch, fail)
    answers = await ask_for_seeds_0_to_7(await make_client())
    assert answers[3].json()["type"] == "/problems/model-failure"
    assert "secret" not in answers[3].text
