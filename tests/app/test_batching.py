"""The batcher, with a model made of plain functions and events instead of sleeps."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.admission import OverloadError, Start
from app.batching import Batcher
from app.pending import ClosedError, DeadlineError, HungError, LeftError

Call = tuple[str, list[int]]


class FakeModel:
    """Doubles numbers, remembers its calls, and waits while it is held."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.free = threading.Event()
        self.free.set()
        self.entered = threading.Event()
        self.bad_rows: set[int] = set()
        self.raise_on: set[int] = set()

    def __call__(self, lane: str, rows: list[int]) -> Sequence[int | Exception]:
        self.calls.append((lane, list(rows)))
        self.entered.set()
        assert self.free.wait(10)
        if self.raise_on & set(rows):
            raise RuntimeError("the model broke")
        return [ValueError("bad row") if row in self.bad_rows else 2 * row for row in rows]

    async def hold(self, batcher: "Batcher[str, int, int]") -> "asyncio.Task[Any]":
        """Keep the model busy with one row, so that what follows has to queue."""
        self.free.clear()
        self.entered.clear()
        task = asyncio.ensure_future(batcher.submit("hold", [0]))
        assert await asyncio.to_thread(self.entered.wait, 10)
        return task


Setup = Callable[..., Any]


@pytest.fixture
def setup() -> Setup:
    @asynccontextmanager
    async def make(**options: Any) -> AsyncIterator[tuple[FakeModel, Batcher[str, int, int]]]:
        model = FakeModel()
        most, rates = options.pop("max_batch", 4), options.pop("rates", {})
        lanes = {name: Start(most, rates.get(name, 0)) for name in ("a", "b", "c", "hold")}
        lanes["now"] = Start(most, at_once=2)
        batcher: Batcher[str, int, int] = Batcher(
            model, ThreadPoolExecutor(1), lanes, **({"queue_limit": 100} | options)
        )
        try:
            yield model, batcher
        finally:
            model.free.set()
            await batcher.close()

    return make


async def queued(batcher: "Batcher[str, int, int]", rows: int) -> None:
    """Let tasks run until so many rows wait."""
    while batcher.waiting != rows:  # noqa: ASYNC110  # the batcher has no such event
        await asyncio.sleep(0)


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


async def test_one_row_waits_for_a_tile_of_a_large_request_and_not_for_all_of_it(
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


async def test_lanes_never_mix_and_the_longest_waiting_goes_first(setup: Setup) -> None:
    async with setup() as (model, batcher):
        held = await model.hold(batcher)
        tasks = []
        for lane, row in (("b", 1), ("a", 2), ("b", 3)):
            tasks.append(asyncio.ensure_future(batcher.submit(lane, [row])))
            await queued(batcher, len(tasks))
        model.free.set()
        await asyncio.gather(*tasks, held)
        assert model.calls[1:] == [("b", [1, 3]), ("a", [2])]


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
        lambda _, rows: rows[1:], ThreadPoolExecutor(1), {"a": Start(4)}, queue_limit=9
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
    async with setup(on_batch=lambda lane, rows, _: seen.append((lane, rows))) as (_, batcher):
        await batcher.submit("a", range(6))
    assert seen == [("a", 4), ("a", 2)]


async def test_a_full_lane_does_not_wait_behind_one_that_fills(setup: Setup) -> None:
    async with setup(max_wait_s=60.0) as (model, batcher):
        lonely = asyncio.ensure_future(batcher.submit("a", [1]))
        await queued(batcher, 1)
        assert (await asyncio.wait_for(batcher.submit("b", range(4)), 10))[0] == [0, 2, 4, 6]
        assert model.calls == [("b", [0, 1, 2, 3])]
        lonely.cancel()


async def test_an_observer_that_raises_does_not_stop_the_service(setup: Setup) -> None:
    def broken(lane: str, rows: int, seconds: float) -> None:
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
        batcher._task.cancel()
        for task in (waiting, held):  # the one in the queue, and the one in the model
            with pytest.raises(ClosedError):
                await asyncio.wait_for(task, 10)
        assert not batcher.alive
        with pytest.raises(ClosedError):
            await batcher.submit("a", [2])


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
        gone = asyncio.ensure_future(batcher.submit("a", [1, 2], left=lambda: True))
        there = asyncio.ensure_future(batcher.submit("a", [3], left=lambda: False))
        await queued(batcher, 3)
        model.free.set()
        await held
        with pytest.raises(LeftError):
            await gone
        assert (await there)[0] == [6]
        assert model.calls == [("hold", [0]), ("a", [3])]
        assert dropped == [("a", 2, "left")]


async def test_deadlines_are_kept_in_whatever_order_they_come(setup: Setup) -> None:
    async with setup() as (model, batcher):
        held = await model.hold(batcher)
        ended: list[float] = []

        async def ask(seconds: float) -> None:
            with pytest.raises(DeadlineError):
                await batcher.submit("a", [1], batcher.clock() + seconds)
            ended.append(seconds)

        await asyncio.wait_for(asyncio.gather(*map(ask, (0.06, 0.02, 0.1, 0.04))), 10)
        assert ended == [0.02, 0.04, 0.06, 0.1]
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


async def test_a_short_call_is_made_on_the_event_loop_and_a_longer_one_is_not(
    setup: Setup,
) -> None:
    async with setup() as (model, batcher):
        found: list[tuple[int, bool, bool]] = []

        def call(lane: str, rows: list[int]) -> Sequence[int | Exception]:
            here = threading.current_thread() is threading.main_thread()
            found.append((len(rows), here, batcher.stands_since is not None))
            doubled: Sequence[int | Exception] = model(lane, rows)
            return doubled

        batcher._run = call
        for rows in ([1], [1, 2], [1, 2, 3]):
            assert (await batcher.submit("now", rows))[0] == [2 * row for row in rows]
        assert found == [(1, True, True), (2, True, True), (3, False, False)]
        assert batcher.stands_since is None


async def test_between_calls_on_the_event_loop_others_have_their_turn(setup: Setup) -> None:
    async with setup(max_batch=2) as (model, batcher):
        many = asyncio.ensure_future(batcher.submit("now", range(100)))
        turns = 0
        while not many.done():
            turns += 1
            await asyncio.sleep(0)
        assert len(model.calls) == 50
        assert turns >= 100  # what has come is read in one, and queued in the next


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
        assert batcher.stands_since is None


@pytest.mark.parametrize("lane", ["a", "now"])
async def test_after_a_fatal_error_nothing_is_run_and_nobody_waits(setup: Setup, lane: str) -> None:
    async with setup(fatal=(RuntimeError,)) as (model, batcher):
        model.raise_on = {9}
        tasks = [asyncio.ensure_future(batcher.submit(name, [9])) for name in (lane, "b")]
        for task in tasks:
            with pytest.raises(ClosedError):
                await asyncio.wait_for(task, 10)
        assert not batcher.alive
        with pytest.raises(ClosedError):
            await batcher.submit("a", [2])
        assert model.calls == [(lane, [9])]


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


async def in_background(batcher: "Batcher[str, int, int]", rows: int) -> None:
    """Let tasks run until so many rows wait in the background."""
    while batcher.waiting_in_background != rows:  # noqa: ASYNC110  # the batcher has no such event
        await asyncio.sleep(0)


async def test_the_background_gets_what_room_is_left_but_a_tile_at_most(setup: Setup) -> None:
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
        # Others have asked a moment ago, so what is left goes a tile at a time.
        tiles = [list(range(start, start + 4)) for start in range(100, 120, 4)]
        first, *rest = tiles
        assert model.calls[1:] == [("a", [1, 2, 3, *first]), ("b", [4]), *(("a", t) for t in rest)]


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


@pytest.mark.parametrize("lane", ["a", "b"])
async def test_the_background_is_not_passed_over_for_ever(setup: Setup, lane: str) -> None:
    """Full calls of others without end: every eighth one yields a tile, or is the background's."""
    async with setup(max_batch=8, queue_limit=1000) as (model, batcher):
        held = await model.hold(batcher)
        behind = asyncio.ensure_future(batcher.submit("b", range(100, 104), background=True))
        await in_background(batcher, 4)
        others = asyncio.ensure_future(batcher.submit(lane, range(1000, 1200)))
        await queued(batcher, 200)
        model.free.set()
        await asyncio.gather(held, behind, others)
        calls = [rows for _, rows in model.calls[1:]]
        with_it = [index for index, rows in enumerate(calls) if min(rows) < 1000]
        assert with_it == [7, 15]
        assert [calls[index][-2:] for index in with_it] == [[100, 101], [102, 103]]
        assert {len(calls[index]) for index in with_it} == ({2} if lane == "a" else {8})


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
    assert [lane for lane, _ in model.calls] == ["hold"]


async def test_in_the_background_too_the_lane_that_waits_longest_goes_first(setup: Setup) -> None:
    now = 100.0
    async with setup(clock=lambda: now) as (model, batcher):
        held = await model.hold(batcher)
        tasks = []
        for lane in ("c", "a", "b"):
            now += 1
            tasks.append(asyncio.ensure_future(batcher.submit(lane, [1], background=True)))
            await in_background(batcher, len(tasks))
        model.free.set()
        await asyncio.gather(held, *tasks)
    assert [lane for lane, _ in model.calls] == ["hold", "c", "a", "b"]
