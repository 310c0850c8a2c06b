"""Who is refused at once, who is dropped from the queue, and what their leaving frees."""

import asyncio
import gc
import weakref

import pytest

from app.batching.admission import OverloadError
from app.batching.ticket import ClientDisconnectedError, DeadlineError
from tests.app.batching.conftest import Setup, queued


async def test_a_full_queue_refuses_at_once_and_runs_nothing_of_it(setup: Setup) -> None:
    async with setup(queue_limit=5) as (model, batcher):
        held = await model.hold(batcher)
        task = asyncio.ensure_future(batcher.submit("a", [1, 2, 3]))
        await queued(batcher, 3)
        with pytest.raises(OverloadError) as caught:
            await batcher.submit("a", [7, 8, 9])
        assert caught.value.reason == "queue"
        assert caught.value.retry_after_s >= 1
        model.free.set()
        assert (await task)[0] == [2, 4, 6]
        await held
        assert not any({7, 8, 9} & set(rows) for _, rows in model.calls)


async def test_a_cancelled_request_never_reaches_the_model_and_frees_its_place(
    setup: Setup,
) -> None:
    async with setup(queue_limit=3) as (model, batcher):
        held = await model.hold(batcher)
        gone = asyncio.ensure_future(batcher.submit("a", [1, 2, 3]))
        await queued(batcher, 3)
        gone.cancel()
        await queued(batcher, 0)
        stays = asyncio.ensure_future(batcher.submit("a", [4, 5, 6]))
        await queued(batcher, 3)
        model.free.set()
        assert (await stays)[0] == [8, 10, 12]
        await held
        assert model.calls[1:] == [("a", [4, 5, 6])]


async def test_what_is_left_of_a_cancelled_large_request_is_dropped(setup: Setup) -> None:
    async with setup(max_batch=2) as (model, batcher):
        model.free.clear()
        gone = asyncio.ensure_future(batcher.submit("a", range(10)))
        assert await asyncio.to_thread(model.entered.wait, 10)
        assert batcher.waiting == 8
        gone.cancel()
        await queued(batcher, 0)
        model.free.set()
        assert (await batcher.submit("a", [50]))[0] == [100]
        assert model.calls == [("a", [0, 1]), ("a", [50])]


async def test_a_predicted_wait_over_what_is_allowed_is_refused_at_once(setup: Setup) -> None:
    rates = {"a": 2.0, "hold": 1e6}
    async with setup(max_queue_s=1.5, rates=rates) as (model, batcher):
        held = await model.hold(batcher)
        accepted = []
        for _ in range(4):  # the fourth waits for 3 rows, which is just allowed
            accepted.append(asyncio.ensure_future(batcher.submit("a", [1])))
            await queued(batcher, len(accepted))
        with pytest.raises(OverloadError) as caught:
            await batcher.submit("a", [7])
        assert caught.value.reason == "wait"
        assert caught.value.predicted_s == pytest.approx(2.0, abs=0.1)
        assert caught.value.retry_after_s in (2, 3)
        model.free.set()
        await asyncio.gather(held, *accepted)
        assert not any(7 in rows for _, rows in model.calls)


async def test_what_cannot_be_done_by_its_deadline_is_refused_at_once(setup: Setup) -> None:
    async with setup(rates={"a": 2.0, "hold": 1e6}) as (model, batcher):
        held = await model.hold(batcher)
        accepted = asyncio.ensure_future(batcher.submit("a", [1]))
        await queued(batcher, 1)
        with pytest.raises(OverloadError) as caught:  # half a second each: one before, one itself
            await batcher.submit("a", [7], batcher.clock() + 0.9)
        assert caught.value.reason == "deadline"
        with pytest.raises(DeadlineError):
            await batcher.submit("a", [7], batcher.clock())
        model.free.set()
        assert (await batcher.submit("a", [8], batcher.clock() + 60))[0] == [16]
        await asyncio.gather(held, accepted)
        assert not any(7 in rows for _, rows in model.calls)


async def test_an_idle_model_tries_even_if_its_rate_was_learnt_too_low(setup: Setup) -> None:
    async with setup(rates={"a": 0.001}) as (_, batcher):
        assert (await batcher.submit("a", range(4), batcher.clock() + 10))[0] == [0, 2, 4, 6]
        assert batcher.admission.rates["a"] > 1


async def test_a_caller_that_has_gone_away_never_reaches_the_model(setup: Setup) -> None:
    dropped: list[tuple[str, int, str]] = []
    async with setup(on_drop=lambda *what: dropped.append(what)) as (model, batcher):
        held = await model.hold(batcher)
        gone = asyncio.ensure_future(batcher.submit("a", [1, 2], client_disconnected=lambda: True))
        there = asyncio.ensure_future(batcher.submit("a", [3], client_disconnected=lambda: False))
        await queued(batcher, 3)
        model.free.set()
        await held
        with pytest.raises(ClientDisconnectedError):
            await gone
        assert (await there)[0] == [6]
        assert model.calls == [("hold", [0]), ("a", [3])]
        assert dropped == [("a", 2, "left")]


async def test_a_request_that_was_dropped_leaves_nothing_for_the_garbage_collector(
    setup: Setup,
) -> None:
    async with setup() as (model, batcher):
        held = await model.hold(batcher)

        async def left() -> weakref.ref[object]:
            def gone() -> bool:  # holds what it asks about: the whole HTTP request
                return True

            try:
                await batcher.submit("a", [1], client_disconnected=gone)
            except ClientDisconnectedError:
                return weakref.ref(gone)
            raise AssertionError

        gc.disable()
        try:
            task = asyncio.ensure_future(left())
            await queued(batcher, 1)
            model.free.set()
            await held
            asked = await task
            await batcher.submit("a", [2])  # the batch before has ended
            assert asked() is None
        finally:
            gc.enable()


async def test_deadlines_are_kept_in_whatever_order_they_come(setup: Setup) -> None:
    async with setup() as (model, batcher):
        held = await model.hold(batcher)
        ended: list[float] = []

        async def ask(seconds: float) -> None:
            with pytest.raises(DeadlineError):
                await batcher.submit("a", [1], batcher.clock() + seconds)
            ended.append(seconds)

        await asyncio.wait_for(asyncio.gather(*map(ask, (0.6, 0.2, 1.0, 0.4))), 10)
        assert ended == [0.2, 0.4, 0.6, 1.0]
        model.free.set()
        await held


async def test_a_deadline_that_passes_in_the_queue_ends_the_request_and_nothing_is_run(
    setup: Setup,
) -> None:
    dropped: list[tuple[str, int, str]] = []
    async with setup(on_drop=lambda *what: dropped.append(what)) as (model, batcher):
        held = await model.hold(batcher)
        with pytest.raises(DeadlineError):  # while the model is still at work
            await asyncio.wait_for(batcher.submit("a", [1, 2], batcher.clock() + 0.02), 10)
        assert batcher.waiting == 0
        model.free.set()
        await held
        assert (await batcher.submit("a", [3]))[0] == [6]
        assert model.calls == [("hold", [0]), ("a", [3])]
        assert dropped == [("a", 2, "expired")]
