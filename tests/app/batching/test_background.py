"""Rows of the background: datasets, which yield to everybody else."""

import asyncio

import pytest

from app.batching.admission import OverloadError
from tests.app.batching.conftest import Setup, in_background, queued


async def test_the_background_gets_what_room_is_left_but_a_quantum_at_most(setup: Setup) -> None:
    async with setup(max_batch=16) as (model, batcher):
        held = await model.hold(batcher)
        behind = asyncio.ensure_future(batcher.submit("a", range(100, 120), background=True))
        await in_background(batcher, 20)
        ahead = [asyncio.ensure_future(batcher.submit("a", [row])) for row in (1, 2, 3)]
        other = asyncio.ensure_future(batcher.submit("b", [4]))
        await queued(batcher, 4)
        model.free.set()
        await asyncio.gather(held, *ahead, other)
        results, _ = await behind
        assert results == [2 * row for row in range(100, 120)]
        # Others have asked a moment ago, so what is left goes a quantum at a time.
        quanta = [list(range(start, start + 4)) for start in range(100, 120, 4)]
        first, *rest = quanta
        assert model.calls[1:] == [
            ("a", [1, 2, 3, *first]),
            ("b", [4]),
            *(("a", rows) for rows in rest),
        ]


async def test_the_background_alone_gets_full_calls(setup: Setup) -> None:
    now = 100.0
    async with setup(max_batch=8, queue_limit=1000, clock=lambda: now) as (model, batcher):
        held = await model.hold(batcher)
        now += 2
        behind = asyncio.ensure_future(batcher.submit("b", range(100, 120), background=True))
        await in_background(batcher, 20)
        model.free.set()
        await asyncio.gather(held, behind)
        assert [len(rows) for _, rows in model.calls] == [1, 8, 8, 4]


@pytest.mark.parametrize("key", ["a", "b"])
async def test_the_background_is_not_passed_over_for_ever(setup: Setup, key: str) -> None:
    """Full calls of others without end: every eighth yields a quantum, or is the background's."""
    async with setup(max_batch=8, queue_limit=1000) as (model, batcher):
        held = await model.hold(batcher)
        behind = asyncio.ensure_future(batcher.submit("b", range(100, 104), background=True))
        await in_background(batcher, 4)
        others = asyncio.ensure_future(batcher.submit(key, range(1000, 1200)))
        await queued(batcher, 200)
        model.free.set()
        await asyncio.gather(held, behind, others)
        calls = [rows for _, rows in model.calls[1:]]
        with_it = [index for index, rows in enumerate(calls) if min(rows) < 1000]
        assert with_it == [7, 15]
        assert [calls[index][-2:] for index in with_it] == [[100, 101], [102, 103]]
        assert {len(calls[index]) for index in with_it} == ({2} if key == "a" else {8})


async def test_the_background_is_no_reason_to_refuse_others_and_is_not_refused(
    setup: Setup,
) -> None:
    rates = {"a": 1.0}  # a row a second
    async with setup(queue_limit=4, max_queue_s=0, rates=rates) as (model, batcher):
        model.free.clear()
        behind = [
            asyncio.ensure_future(batcher.submit("a", range(10), background=True)) for _ in range(3)
        ]
        assert await asyncio.to_thread(model.entered.wait, 10)
        await in_background(batcher, 30 - 4)
        assert batcher.admission.wait_s(batcher.clock()) <= 4  # the call that runs, no more
        ahead = asyncio.ensure_future(batcher.submit("a", [1, 2, 3, 4]))
        await queued(batcher, 4)
        with pytest.raises(OverloadError):
            await batcher.submit("a", [5])  # others are one
        model.free.set()
        await asyncio.gather(ahead, *behind)


async def test_who_leaves_the_background_is_dropped(setup: Setup) -> None:
    dropped: list[tuple[str, int, str]] = []
    async with setup(on_drop=lambda *what: dropped.append(what)) as (model, batcher):
        held = await model.hold(batcher)
        behind = asyncio.ensure_future(batcher.submit("a", [1, 2, 3], background=True))
        await in_background(batcher, 3)
        behind.cancel()
        await in_background(batcher, 0)
        model.free.set()
        await held
        assert dropped == [("a", 3, "left")]
    assert [key for key, _ in model.calls] == ["hold"]


async def test_in_the_background_too_the_operation_that_waits_longest_goes_first(
    setup: Setup,
) -> None:
    now = 100.0
    async with setup(clock=lambda: now) as (model, batcher):
        held = await model.hold(batcher)
        tasks = []
        for key in ("c", "a", "b"):
            now += 1
            tasks.append(asyncio.ensure_future(batcher.submit(key, [1], background=True)))
            await in_background(batcher, len(tasks))
        model.free.set()
        await asyncio.gather(held, *tasks)
    assert [key for key, _ in model.calls] == ["hold", "c", "a", "b"]
