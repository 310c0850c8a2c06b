"""Models that raise, hang or answer wrongly, and batchers that close."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.batching.batcher import Batcher
from app.batching.operation_queue import QueueConfig
from app.batching.ticket import ClosedError, HungError
from tests.app.batching.conftest import Setup, queued
from tests.conftest import batcher_task


async def test_a_bad_row_fails_its_request_alone(setup: Setup) -> None:
    async with setup() as (model, batcher):
        model.bad_rows = {2}
        held = await model.hold(batcher)
        tasks = [asyncio.ensure_future(batcher.submit("a", [i])) for i in (1, 2, 3)]
        await queued(batcher, 3)
        model.free.set()
        answers: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        await held
        assert len(model.calls) == 2
        assert isinstance(answers[1], ValueError)
        assert [answers[0][0], answers[2][0]] == [[2], [6]]


async def test_a_call_that_raises_is_repeated_request_by_request(setup: Setup) -> None:
    async with setup() as (model, batcher):
        model.raise_on = {2}
        held = await model.hold(batcher)
        tasks = [asyncio.ensure_future(batcher.submit("a", [i])) for i in (1, 2, 3)]
        await queued(batcher, 3)
        model.free.set()
        answers: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        await held
        assert isinstance(answers[1], RuntimeError)
        assert [answers[0][0], answers[2][0]] == [[2], [6]]
        assert (await batcher.submit("a", [5]))[0] == [10]  # and it goes on
        assert batcher.waiting == 0


async def test_the_rest_of_a_failed_large_request_is_dropped(setup: Setup) -> None:
    async with setup(max_batch=2) as (model, batcher):
        model.bad_rows = {0}
        with pytest.raises(ValueError, match="bad row"):
            await batcher.submit("a", range(10))
        assert (await batcher.submit("a", [50]))[0] == [100]
        assert batcher.waiting == 0
        assert sum(len(rows) for _, rows in model.calls) <= 5


async def test_too_few_results_are_an_error_and_not_a_hang(setup: Setup) -> None:
    batcher: Batcher[str, int, int] = Batcher(
        lambda _, rows: rows[1:], ThreadPoolExecutor(1), {"a": QueueConfig(4)}, queue_limit=9
    )
    with pytest.raises(RuntimeError, match="1 results for 2"):
        await batcher.submit("a", [1, 2])
    await batcher.close()


async def test_closing_finishes_what_was_accepted_and_refuses_the_rest(setup: Setup) -> None:
    async with setup() as (model, batcher):
        held = await model.hold(batcher)
        accepted = asyncio.ensure_future(batcher.submit("a", range(9)))
        await queued(batcher, 9)
        closing = asyncio.ensure_future(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(ClosedError):
            await batcher.submit("a", [1])
        model.free.set()
        await closing
        assert (await accepted)[0] == [2 * i for i in range(9)]
        assert held.done()


async def test_an_observer_that_raises_does_not_stop_the_service(setup: Setup) -> None:
    def broken(key: str, rows: int, seconds: float) -> None:
        raise RuntimeError("no room for metrics")

    async with setup(on_batch=broken) as (_, batcher):
        assert (await batcher.submit("a", [1]))[0] == [2]
        assert (await batcher.submit("a", [2]))[0] == [4]
        assert batcher.alive


async def test_nobody_waits_for_a_batcher_whose_task_has_ended(setup: Setup) -> None:
    async with setup() as (model, batcher):
        held = await model.hold(batcher)
        waiting = asyncio.ensure_future(batcher.submit("a", [1]))
        await queued(batcher, 1)
        batcher_task().cancel()
        for task in (waiting, held):  # the one in the queue, and the one in the model
            with pytest.raises(ClosedError):
                await asyncio.wait_for(task, 10)
        assert not batcher.alive
        with pytest.raises(ClosedError):
            await batcher.submit("a", [2])


async def test_between_calls_that_raise_others_have_their_turn_too(setup: Setup) -> None:
    async with setup(max_batch=2) as (model, batcher):
        model.raise_on = set(range(100))
        tasks = [asyncio.ensure_future(batcher.submit("now", [row])) for row in range(100)]
        longest = calls = 0
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            longest, calls = max(longest, len(model.calls) - calls), len(model.calls)
        assert len(model.calls) >= 100
        assert longest <= 2
        for task in tasks:
            assert isinstance(task.exception(), RuntimeError)


async def test_a_call_on_the_event_loop_that_raises_fails_the_guilty_alone(setup: Setup) -> None:
    async with setup() as (model, batcher):
        model.raise_on, model.bad_rows = {1}, {4}
        tasks = [asyncio.ensure_future(batcher.submit("now", [row])) for row in (1, 2, 3, 4)]
        answers: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[0], RuntimeError)
        assert isinstance(answers[3], ValueError)
        assert [answer[0] for answer in answers[1:3]] == [[4], [6]]
        assert batcher.calls.inline_call_started is None


@pytest.mark.parametrize("key", ["a", "now"])
async def test_after_a_fatal_error_nothing_is_run_and_nobody_waits(setup: Setup, key: str) -> None:
    async with setup(fatal=(RuntimeError,)) as (model, batcher):
        model.raise_on = {9}
        tasks = [asyncio.ensure_future(batcher.submit(name, [9])) for name in (key, "b")]
        for task in tasks:
            with pytest.raises(ClosedError):
                await asyncio.wait_for(task, 10)
        assert not batcher.alive
        with pytest.raises(ClosedError):
            await batcher.submit("a", [2])
        assert model.calls == [(key, [9])]


async def test_a_hung_model_is_not_alive_and_answers_everyone_until_it_returns(
    setup: Setup,
) -> None:
    async with setup(hang_s=0.05) as (model, batcher):
        held = await model.hold(batcher)
        waiting = asyncio.ensure_future(batcher.submit("a", [1]))
        for task in (held, waiting):
            with pytest.raises(HungError):
                await asyncio.wait_for(task, 10)
        assert not batcher.alive
        assert batcher.waiting == 0
        with pytest.raises(HungError):
            await batcher.submit("a", [2])
        model.free.set()
        while not batcher.alive:  # noqa: ASYNC110  # the batcher has no such event
            await asyncio.sleep(0)
        assert (await batcher.submit("a", [3]))[0] == [6]
        assert model.calls == [("hold", [0]), ("a", [3])]


async def test_closing_does_not_wait_for_a_hung_model(setup: Setup) -> None:
    async with setup(hang_s=0.05) as (model, batcher):
        held = await model.hold(batcher)
        await asyncio.wait_for(batcher.close(), 10)
        assert batcher.hung
        with pytest.raises(HungError):
            await held


async def test_a_call_that_raises_costs_few_others(setup: Setup) -> None:
    async with setup(max_batch=64) as (model, batcher):
        model.raise_on = {40}
        held = await model.hold(batcher)
        tasks = [asyncio.ensure_future(batcher.submit("a", [i])) for i in range(1, 65)]
        await queued(batcher, 64)
        model.free.set()
        answers: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        await held
        assert [i for i, a in enumerate(answers, 1) if isinstance(a, Exception)] == [40]
        assert len(model.calls) == 1 + 1 + 2 * 6  # halved until the guilty one was alone
