"""Which rows go to the model together, in which order, and on which thread."""

import asyncio
import threading
from collections.abc import Sequence

from tests.app.batching.conftest import Setup, queued


async def test_requests_that_wait_share_one_call(setup: Setup) -> None:
    async with setup() as (model, batcher):
        held = await model.hold(batcher)
        tasks = [asyncio.ensure_future(batcher.submit("a", [i])) for i in (1, 2, 3)]
        await queued(batcher, 3)
        model.free.set()
        answers = await asyncio.gather(*tasks)
        await held
        assert [results for results, _ in answers] == [[2], [4], [6]]
        assert model.calls[1:] == [("a", [1, 2, 3])]
        assert [timing.batch_rows for _, timing in answers] == [3, 3, 3]


async def test_a_large_request_is_cut_and_comes_back_in_order(setup: Setup) -> None:
    async with setup() as (model, batcher):
        results, timing = await batcher.submit("a", range(11))
        assert results == [2 * i for i in range(11)]
        assert [len(rows) for _, rows in model.calls] == [4, 4, 3]
        assert timing.own_rows == 3


async def test_a_batch_holds_parts_of_several_requests_and_never_too_many(setup: Setup) -> None:
    async with setup() as (model, batcher):
        held = await model.hold(batcher)
        first = asyncio.ensure_future(batcher.submit("a", [1, 2, 3]))
        second = asyncio.ensure_future(batcher.submit("a", [4, 5, 6]))
        await queued(batcher, 6)
        model.free.set()
        assert (await first)[0] == [2, 4, 6]
        assert (await second)[0] == [8, 10, 12]
        await held
        assert model.calls[1:] == [("a", [1, 2, 4, 5]), ("a", [3, 6])]  # in turns of one row


async def test_one_row_waits_for_a_quantum_of_a_large_request_and_not_for_all_of_it(
    setup: Setup,
) -> None:
    async with setup(max_batch=16) as (model, batcher):
        held = await model.hold(batcher)
        large = asyncio.ensure_future(batcher.submit("a", range(100, 164)))
        await queued(batcher, 64)
        small = [asyncio.ensure_future(batcher.submit("a", [row])) for row in (1, 2, 3)]
        await queued(batcher, 67)
        model.free.set()
        assert [results for results, _ in await asyncio.gather(*small)] == [[2], [4], [6]]
        assert (await large)[0] == [2 * row for row in range(100, 164)]
        await held
        assert model.calls[1] == ("a", [*range(100, 113), 1, 2, 3])
        assert [len(rows) for _, rows in model.calls[1:]] == [16, 16, 16, 16, 3]


async def test_operations_never_mix_and_the_longest_waiting_goes_first(setup: Setup) -> None:
    async with setup() as (model, batcher):
        held = await model.hold(batcher)
        tasks = []
        for key, row in (("b", 1), ("a", 2), ("b", 3)):
            tasks.append(asyncio.ensure_future(batcher.submit(key, [row])))
            await queued(batcher, len(tasks))
        model.free.set()
        await asyncio.gather(*tasks, held)
        assert model.calls[1:] == [("b", [1, 3]), ("a", [2])]


async def test_waiting_fills_a_batch_but_a_full_one_goes_at_once(setup: Setup) -> None:
    async with setup(max_wait_s=60.0) as (model, batcher):
        tasks = [asyncio.ensure_future(batcher.submit("a", [i])) for i in range(4)]
        answers = await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert [results for results, _ in answers] == [[0], [2], [4], [6]]
        assert model.calls == [("a", [0, 1, 2, 3])]


async def test_a_batch_that_does_not_fill_goes_after_the_wait(setup: Setup) -> None:
    async with setup(max_wait_s=0.01) as (model, batcher):
        assert (await asyncio.wait_for(batcher.submit("a", [1]), 10))[0] == [2]
        assert model.calls == [("a", [1])]


async def test_every_call_is_reported(setup: Setup) -> None:
    seen: list[tuple[str, int]] = []
    async with setup(on_batch=lambda key, rows, _: seen.append((key, rows))) as (_, batcher):
        await batcher.submit("a", range(6))
    assert seen == [("a", 4), ("a", 2)]


async def test_a_full_operation_does_not_wait_behind_one_that_fills(setup: Setup) -> None:
    async with setup(max_wait_s=60.0) as (model, batcher):
        lonely = asyncio.ensure_future(batcher.submit("a", [1]))
        await queued(batcher, 1)
        assert (await asyncio.wait_for(batcher.submit("b", range(4)), 10))[0] == [0, 2, 4, 6]
        assert model.calls == [("b", [0, 1, 2, 3])]
        lonely.cancel()


async def test_a_short_call_is_made_on_the_event_loop_and_a_longer_one_is_not(
    setup: Setup,
) -> None:
    async with setup() as (model, batcher):
        found: list[tuple[int, bool, bool]] = []

        def call(key: str, rows: list[int]) -> Sequence[int | Exception]:
            here = threading.current_thread() is threading.main_thread()
            found.append((len(rows), here, batcher.calls.inline_call_started is not None))
            doubled: Sequence[int | Exception] = model(key, rows)
            return doubled

        batcher.calls.run = call
        for rows in ([1], [1, 2], [1, 2, 3]):
            assert (await batcher.submit("now", rows))[0] == [2 * row for row in rows]
        assert found == [(1, True, True), (2, True, True), (3, False, False)]
        assert batcher.calls.inline_call_started is None


async def test_between_calls_on_the_event_loop_others_have_their_turn(setup: Setup) -> None:
    async with setup(max_batch=2) as (model, batcher):
        many = asyncio.ensure_future(batcher.submit("now", range(100)))
        turns = 0
        while not many.done():
            turns += 1
            await asyncio.sleep(0)
        assert len(model.calls) == 50
        assert turns >= 100  # what has come is read in one, and queued in the next
