"""The batcher against every order of events: a state machine with a clock and a model by hand.

No thread and no sleep: the event loop's time is a number that the test moves, and a call of the
model is a future that the test completes.
"""

import asyncio
import math
import os
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from app.batching.admission import PRESENT_S, OverloadError
from app.batching.batcher import Batcher
from app.batching.operation_queue import QUANTA, QueueConfig
from app.batching.scheduler import MAX_PASSED_OVER, QUIET_S
from app.batching.ticket import (
    ClientDisconnectedError,
    ClosedError,
    DeadlineError,
    HungError,
)
from tests.app.batching.by_hand import Asked, HandExecutor, HandLoop

MAX_BATCH = 8
QUANTUM = MAX_BATCH // QUANTA
QUEUE_LIMIT = 40
MAX_WAIT_S = 3.0
HANG_S = 50.0
CLIENTS = ("x", "y", "z")
FULL_RATE = 4.0  # rows a second at start-up, so that the admission has something to refuse


class BatcherMachine(RuleBasedStateMachine):
    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.loop = HandLoop()
        self.asked: list[Asked] = []
        self.of_row: dict[int, Asked] = {}
        self.next_row = 0
        self.batches = {"a": 0, "b": 0}
        self.yielded = {"a": 0, "b": 0}  # rows of these, in the background though others waited
        self.passed_over = {"surely": 0, "perhaps": 0}  # calls that left the background out
        self.last_by = dict.fromkeys(CLIENTS, -math.inf)  # when each came to the admission
        self.last_asked = -math.inf  # when a request came that is not in the background
        self.dropped = 0
        self.violation: AssertionError | None = None
        self.retrying: set[int] = set()  # rows of a call that raised
        self.call_started = 0.0
        self.closing: asyncio.Task[None] | None = None
        self.executor = HandExecutor(self._entered)
        self.loop.run_until_complete(self._make())

    async def _make(self) -> None:
        self.batcher: Batcher[str, int, int] = Batcher(
            self._called,
            self.executor,
            {
                name: QueueConfig(MAX_BATCH, self.rates.get(name, 0), self.inline_rows)
                for name in ("a", "b")
            },
            max_wait_s=self.max_wait_s,
            queue_limit=QUEUE_LIMIT,
            max_queue_s=self.max_queue_s,
            target_s=self.target_s,
            max_share=self.max_share,
            hang_s=HANG_S,
            on_drop=self._on_drop,
            clock=self.loop.time,
        )

    max_wait_s = 0.0
    max_queue_s = target_s = math.inf
    max_share = 1.0
    inline_rows = 0
    rates: dict[str, float] = {}  # noqa: RUF012

    # What the batcher calls.

    def _called(self, key: str, rows: list[int]) -> list[int | Exception]:
        if len(rows) <= self.inline_rows:
            assert not self.executor.call, "two calls at once"
            assert self.batcher.calls.inline_call_started == self.loop.now
            self._entered(key, rows)
        else:
            assert self.batcher.calls.inline_call_started is None
        return self._model(key, rows)

    def _entered(self, key: str, rows: list[int]) -> None:
        try:
            self._check_call(key, rows)
        except AssertionError as error:  # which the batcher would take for the model's
            self.violation = self.violation or error

    def _check_call(self, key: str, rows: list[int]) -> None:
        """A call begins: nobody in it may have left or be late, and none may come twice."""
        assert 0 < len(rows) <= MAX_BATCH
        fresh = [row for row in rows if row not in self.of_row[row].runs]
        assert fresh in ([], rows), "a batch mixes new rows with repeated ones"
        assert set(rows) <= self.retrying if not fresh else not set(rows) & self.retrying
        self.call_started = self.loop.now
        for row in rows:
            asked = self.of_row[row]
            assert asked.key == key
            assert not asked.cancelled
            assert not asked.gone
            assert asked.deadline > self.loop.now
            asked.runs.append(row)
        if fresh:
            self.batches[key] += 1
            self._check_background(key, rows)
            for asked in self.asked:
                # Its task may not know yet that it is over.
                over = asked.task.done() or asked.deadline <= self.loop.now
                over = over or bool(asked.poison) or asked.gone
                if asked.background or over:
                    continue
                if asked.key == key and len(asked.rows) <= QUANTUM and asked.waiting:
                    # Fairness: all that may go before it, and then it.
                    given = (self.batches[key] - asked.batches) * MAX_BATCH
                    given -= self.yielded[key] - asked.yielded
                    assert given < asked.ahead + len(asked.rows)

    def _check_background(self, key: str, rows: list[int]) -> None:
        """A call takes along what is in the background only as far as that holds up nobody, but
        not never."""
        behind = sum(self.of_row[row].background for row in rows)
        pending = [asked for asked in self.asked if asked.waiting and not asked.task.done()]
        live = [a for a in pending if a.deadline > self.loop.now and not (a.poison or a.gone)]
        others = [asked for asked in live if not asked.background]
        if behind:
            recent = self.loop.now - self.last_asked < QUIET_S
            assert behind <= QUANTUM or (behind == len(rows) and not recent)
            if not self.max_wait_s and (
                (behind == len(rows) and others) or any(asked.key == key for asked in others)
            ):
                assert self.passed_over["perhaps"] >= MAX_PASSED_OVER
                assert behind <= QUANTUM
            if any(asked.key == key for asked in others):
                self.yielded[key] += behind
        # Whose task does not know yet that it is over may be in the queue, or may not.
        for how, waiting in (("surely", live), ("perhaps", pending)):
            left_out = not behind and any(asked.background for asked in waiting)
            self.passed_over[how] = self.passed_over[how] + 1 if left_out else 0
        assert self.passed_over["surely"] <= MAX_PASSED_OVER

    def _model(self, key: str, rows: list[int]) -> list[int | Exception]:
        if any(self.of_row[row].poison == "raises" for row in rows):
            self.retrying |= set(rows)
            raise RuntimeError("the model broke")
        self.retrying -= set(rows)
        return [
            ValueError("bad row") if self.of_row[row].poison == "bad row" else 2 * row
            for row in rows
        ]

    def _on_drop(self, key: str, rows: int, reason: str) -> None:
        assert reason in ("left", "expired", "stopped", "failed")
        self.dropped += rows

    # What happens.

    def settle(self) -> None:
        async def turns() -> None:
            for _ in range(40):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    @rule(
        target=requests,
        key=st.sampled_from(["a", "b"]),
        client=st.sampled_from(["x", "x", *CLIENTS]),
        count=st.one_of(st.just(1), st.integers(1, 20)),
        timeout=st.sampled_from([None, 1.0, 4.0, 20.0]),
        poison=st.sampled_from(["", "", "", "", "raises", "bad row"]),
        background=st.sampled_from([False, False, True]),
    )
    def ask(
        self,
        key: str,
        client: str,
        count: int,
        timeout: float | None,
        poison: str,
        background: bool,
    ) -> Asked:
        rows = list(range(self.next_row, self.next_row + count))
        self.next_row += count
        deadline = math.inf if timeout is None else self.loop.now + timeout
        pending = [a for a in self.asked if not a.task.done() and not a.background]
        own = [a for a in pending if a.client == client]
        # Of its client's requests a turn each, and between the client's turns one of each other.
        before = sum(min(QUANTUM, a.waiting) for a in own if a.key == key)
        turns = 1 + math.ceil((before + count) / QUANTUM)
        held = sum(a.waiting for a in own)
        asked: Asked

        def gone() -> bool:
            return asked.gone

        task = self.loop.create_task(
            self.batcher.submit(key, rows, deadline, gone, client, background=background)
        )
        asked = Asked(
            key,
            client,
            rows,
            deadline,
            self.loop.now,
            task,
            ahead=before + turns * QUANTUM * (len(CLIENTS) - 1),
            batches=self.batches[key],
            too_late=self.closing is not None,
            background=background,
            yielded=self.yielded[key],
            poison=poison,
        )
        self.of_row |= dict.fromkeys(rows, asked)
        room = QUEUE_LIMIT - self.batcher.waiting
        others = self.batcher.waiting - held
        if held:
            room = min(room, int(self.max_share * (QUEUE_LIMIT - others)) - held)
        beside = max(at for name, at in self.last_by.items() if name != client)
        if not (background or self.closing or self.batcher.hung):
            self.last_by[client] = self.loop.now
        alone = all(other.task.done() or other.background for other in self.asked)
        self.asked.append(asked)
        self.settle()
        if not background and not task.done():
            self.last_asked = asked.arrived
        if task.done() and isinstance(task.exception(), OverloadError):
            assert self.reason_of(task) != "queue" or count > room
            assert not asked.runs
            assert not background
            assert not alone or count > room  # what is in the background is no reason to refuse
            self._check_share(task.exception(), held, others, beside)
        else:
            assert count <= room or background or self.closing or self.batcher.hung
        return asked

    def _check_share(self, error: object, held: int, others: int, beside: float) -> None:
        """Whoever is told that it has more than its share has, and somebody else is there; who has
        most is told so."""
        assert isinstance(error, OverloadError)
        if error.own_rows is not None:
            assert error.own_rows == held
            assert len(CLIENTS) * held > others + held
        there = self.loop.now - beside < PRESENT_S
        assert there or error.own_rows is None
        assert not (there and held > others) or error.own_rows == held

    @staticmethod
    def reason_of(task: "asyncio.Task[Any]") -> str:
        error = task.exception()
        assert isinstance(error, OverloadError)
        assert error.retry_after_s >= 1
        return error.reason

    @rule(asked=consumes(requests))
    def leave(self, asked: Asked) -> None:
        if not asked.task.done():
            asked.cancelled = True
            asked.task.cancel()
            self.settle()
            assert asked.task.cancelled()

    @rule(asked=consumes(requests))
    def go_away(self, asked: Asked) -> None:
        """The batcher finds out when it asks, before it would run a row."""
        asked.gone = True

    @precondition(lambda self: self.executor.call)
    @rule(took=st.sampled_from([0.0, 0.1, 1.0, 5.0]))
    def complete(self, took: float) -> None:
        """The call returns; what falls due in this moment is not done before the batcher goes on,
        as on a busy event loop."""
        self.loop.now += took
        self.executor.complete()
        self.settle()
        assert not self.batcher.hung or self.closing

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.5, 10.0]))
    def pass_time(self, seconds: float) -> None:
        self.loop.now += seconds
        self.settle()

    @precondition(lambda self: self.executor.call)
    @rule()
    def hang(self) -> None:
        pending = [asked for asked in self.asked if not asked.task.done()]
        self.loop.now = self.call_started + HANG_S + 0.001
        self.settle()
        assert not self.batcher.alive
        for asked in pending:
            assert isinstance(asked.task.exception(), (HungError, DeadlineError))

    @rule()
    @precondition(lambda self: self.closing is None and len(self.asked) > 8)
    def close(self) -> None:
        self.closing = self.loop.create_task(self.batcher.close())
        self.settle()

    # What holds, always.

    @invariant()
    def closing_does_not_wait_for_a_hung_model(self) -> None:
        assert not (self.closing and self.batcher.hung) or self.closing.done()

    @invariant()
    def calls_are_right(self) -> None:
        if self.violation:
            raise self.violation

    @invariant()
    def what_waits_is_what_nobody_has_run(self) -> None:
        pending = [asked for asked in self.asked if not asked.task.done()]
        waiting = sum(asked.waiting for asked in pending if not asked.background)
        assert self.batcher.waiting == waiting <= QUEUE_LIMIT
        behind = sum(asked.waiting for asked in pending if asked.background)
        assert self.batcher.waiting_in_background == behind
        assert self.batcher.unanswered == len(pending)

    @invariant()
    def nobody_waits_past_a_deadline(self) -> None:
        for asked in self.asked:
            assert asked.deadline > self.loop.now or asked.task.done()

    @invariant()
    def the_model_works_while_something_waits(self) -> None:
        if self.executor.call:
            return
        assert not self.batcher.waiting_in_background
        if self.batcher.waiting:
            for asked in self.asked:
                if not asked.task.done():
                    wait_s = min(self.max_wait_s, (asked.deadline - asked.arrived) / 2)
                    assert self.loop.now < asked.arrived + wait_s
            for key in "ab":
                pending = (a for a in self.asked if a.key == key and not a.task.done())
                assert sum(asked.waiting for asked in pending) < MAX_BATCH

    @invariant()
    def nobody_is_forgotten(self) -> None:
        if not (self.executor.call or self.batcher.waiting or self.batcher.waiting_in_background):
            assert all(asked.task.done() for asked in self.asked)

    @invariant()
    def answers_are_right(self) -> None:
        for asked in self.asked:
            if not asked.task.done() or asked.cancelled:
                continue
            error = asked.task.exception()
            if error is None:
                assert not asked.poison
                results, timing = asked.task.result()
                assert results == [2 * row for row in asked.rows]
                assert sorted(set(asked.runs)) == asked.rows
                assert 1 <= timing.own_rows <= timing.batch_rows <= MAX_BATCH
            elif isinstance(error, ClientDisconnectedError):
                assert asked.gone
            elif isinstance(error, (RuntimeError, ValueError)):
                assert asked.poison, "a neighbour's failure"
            else:
                assert isinstance(error, (OverloadError, DeadlineError, HungError, ClosedError))
                assert asked.too_late or not isinstance(error, ClosedError)

    def teardown(self) -> None:
        """Shutdown answers all."""
        try:
            self._close_and_check()
        finally:
            self.loop.close()

    def _close_and_check(self) -> None:
        if self.closing is None:
            self.closing = self.loop.create_task(self.batcher.close())
        self.settle()
        for _ in range(1000):
            if self.closing.done():
                break
            if self.executor.call:
                self.executor.complete()
            self.settle()  # calls on the event loop need turns of it, and no completing
        assert self.closing.done()
        assert all(asked.task.done() for asked in self.asked)
        self.calls_are_right()
        self.answers_are_right()
        assert self.batcher.waiting == self.batcher.waiting_in_background == 0
        accepted = [
            asked
            for asked in self.asked
            if asked.cancelled or not isinstance(asked.task.exception(), OverloadError)
        ]
        assert self.dropped <= sum(asked.waiting for asked in accepted)


class WaitingMachine(BatcherMachine):
    """Batches wait to fill."""

    max_wait_s = MAX_WAIT_S


class RefusingMachine(BatcherMachine):
    """Long waits are refused, and sooner where they are common."""

    max_queue_s = 5.0
    target_s = 2.0
    rates = {"a": FULL_RATE, "b": FULL_RATE}  # noqa: RUF012


class SharingMachine(BatcherMachine):
    """No client may fill the queue, and long waits are refused."""

    max_share = 0.5
    max_queue_s = 5.0
    rates = {"a": FULL_RATE, "b": FULL_RATE}  # noqa: RUF012


class MixedMachine(BatcherMachine):
    """Small calls are made on the event loop, and others in the executor."""

    inline_rows = 3
    max_queue_s = 5.0
    rates = {"a": FULL_RATE, "b": FULL_RATE}  # noqa: RUF012


# The same examples each time, so that the gate gives the same verdict twice. After a change of the
# batcher, try many at random: HYPOTHESIS_EXAMPLES=2000 pytest tests/app/batching/test_machine.py
_EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "60"))
_SETTINGS = settings(
    max_examples=_EXAMPLES, derandomize=_EXAMPLES == 60, stateful_step_count=40, deadline=None
)
for _machine in (BatcherMachine, WaitingMachine, RefusingMachine, SharingMachine, MixedMachine):
    _machine.TestCase.settings = _SETTINGS
TestBatcher = BatcherMachine.TestCase
TestWaitingBatcher = pytest.mark.slow(WaitingMachine.TestCase)
TestRefusingBatcher = pytest.mark.slow(RefusingMachine.TestCase)
TestSharingBatcher = pytest.mark.slow(SharingMachine.TestCase)
TestMixedBatcher = pytest.mark.slow(MixedMachine.TestCase)
