"""Who is let in: no loop, no clock."""

import math
from collections.abc import Mapping

import pytest

from app.batching.admission import CALLS, INTERVAL_S, STRETCH, Admission, OverloadError
from app.batching.fair_queue import Ticket
from app.batching.operation_queue import OperationQueue, QueueConfig


def admission_of(
    rates: Mapping[str, float],
    queue_limit: int = 100,
    max_share: float = 1.0,
    target_s: float = math.inf,
) -> Admission[str, Ticket]:
    """Operations with so many rows a second; at most a second of wait."""
    queues = {key: OperationQueue[Ticket](QueueConfig(16, rate)) for key, rate in rates.items()}
    return Admission(queues, queue_limit, 1.0, max_share, target_s)


RATES = {"a": 10.0, "b": 100.0}


def test_the_wait_is_what_runs_and_what_is_queued_in_every_operation() -> None:
    admission = admission_of(RATES)
    assert admission.wait_s(now=0) == 0
    admission.call_ends = 7.5
    assert admission.wait_s(now=7.0) == 0.5
    admission.queues["a"].add(Ticket(waiting=2), 7.0)
    admission.queues["b"].add(Ticket(waiting=30), 7.0)
    assert admission.wait_s(now=7.0) == pytest.approx(0.5 + 2 / 10 + 30 / 100)
    for rows, turns in ((1, 4), (8, 8)):  # a request waits for the turns that go before its own
        with pytest.raises(OverloadError, match="deadline") as caught:
            admission.check("b", rows, now=7.0, left_s=0.1, idle=False)
        predicted_s = caught.value.predicted_s
        assert predicted_s == pytest.approx(0.5 + 2 / 10 + turns / 100 + rows / 100)
    assert admission.retry_after_s(now=7.0) == 1
    admission.queues["a"].add(Ticket(waiting=28), 7.0)
    assert admission.retry_after_s(now=7.0) == 4  # 0.5 + 30 / 10 + 30 / 100


def test_refusals_say_which_limit_it_was() -> None:
    admission = admission_of(RATES, queue_limit=30)
    admission.check("b", 30, now=0, left_s=9, idle=True)
    with pytest.raises(OverloadError, match="queue"):
        admission.check("b", 31, now=0, left_s=9, idle=True)
    for _ in range(4):
        admission.queues["a"].add(Ticket(waiting=3), 0)
    admission.check("b", 1, now=0, left_s=9, idle=True)  # nothing runs: it costs nothing to try
    with pytest.raises(OverloadError, match="wait") as caught:
        admission.check("b", 1, now=0, left_s=9, idle=False)
    assert caught.value.predicted_s == pytest.approx(1.2)
    assert caught.value.allowed_s == 1.0
    assert caught.value.retry_after_s == 2
    admission = admission_of(RATES)
    admission.queues["a"].add(Ticket(waiting=4), 0)
    admission.check("a", 2, now=0, left_s=0.7, idle=False)
    with pytest.raises(OverloadError, match="deadline"):
        admission.check("a", 2, now=0, left_s=0.5, idle=False)


def crowded() -> Admission[str, Ticket]:
    """100 rows a second, at most one second of wait and 100 rows, of which a client has half."""
    return admission_of({"a": 100.0}, max_share=0.5)


def ask(
    admission: Admission[str, Ticket], client: str | None, rows: int, now: float = 0.0
) -> OverloadError | None:
    try:
        admission.check("a", rows, now, left_s=9, idle=False, client=client)
    except OverloadError as error:
        return error
    admission.queues["a"].add(Ticket(waiting=rows, client=client), now)
    return None


def test_one_client_leaves_room_in_the_queue_and_several_get_as_much_each() -> None:
    admission = crowded()
    assert ask(admission, "first", 50) is None
    alone = ask(admission, "first", 1)
    assert alone
    assert (alone.reason, alone.own_rows) == ("queue", None)  # nobody else is there
    assert ask(admission, "second", 25) is None  # half of what is left
    beside = ask(admission, "first", 1)
    assert beside
    assert (beside.reason, beside.own_rows) == ("queue", 50)
    over = ask(admission, "second", 1)
    assert over
    assert (over.reason, over.own_rows) == ("queue", None)  # it has less than the other
    assert ask(admission, "third", 25) is None  # who has nothing there may take all that is left
    assert ask(admission, None, 1)  # full, also for who is nobody in particular


def test_who_asked_long_ago_is_not_there_any_more() -> None:
    admission = crowded()
    assert ask(admission, "other", 1, now=0) is None
    assert ask(admission, "flood", 50, now=1) is None
    for now, own in ((1.0, None), (0.9, 50)):  # a second after "other", and sooner
        refused = ask(admission, "flood", 1, now=now)
        assert refused
        assert refused.own_rows == own


def test_who_waits_behind_itself_alone_is_refused_and_others_are_not() -> None:
    admission = admission_of({"a": 100.0}, queue_limit=1000)
    assert ask(admission, "quiet", 1) is None
    while (refused := ask(admission, "flood", 1)) is None:
        pass
    assert (refused.reason, refused.own_rows) == ("wait", 100)  # and one of "quiet"
    assert ask(admission, "quiet", 1) is None


def standing(rate: float = 1000.0, rows: int = 300) -> Admission[str, Ticket]:
    """So many rows a second, of which a queue that stands may hold 0.2 s, and so many rows that
    have waited since 0 s."""
    admission = admission_of({"a": rate, "idle": 1.0}, queue_limit=10**4, target_s=0.2)
    assert ask(admission, "first", 1) is None
    pile(admission, rows - 1, 0)
    return admission


def pile(admission: Admission[str, Ticket], rows: int, now: float) -> None:
    """So many rows wait, each a request of its own, whether or not they would be let in."""
    for _ in range(rows):
        admission.queues["a"].add(Ticket(waiting=1, client="first"), now)


def drained(admission: Admission[str, Ticket], rows: int, now: float) -> None:
    """The model takes so many rows."""
    assert sum(n for _, n in admission.queues["a"].foreground.take(rows, now, lambda _: False))


def test_a_burst_may_wait_and_a_queue_that_stands_is_held_at_its_target() -> None:
    admission = standing()
    assert ask(admission, "first", 1, now=INTERVAL_S) is None  # 0.3 s of wait
    refused = ask(admission, "first", 1, now=INTERVAL_S + 0.01)
    assert refused
    assert (refused.reason, refused.allowed_s) == ("wait", 0.2)
    assert refused.predicted_s == pytest.approx(0.301)
    drained(admission, 101, 0.2)
    assert ask(admission, "first", 1, now=0.2) is None  # just the target
    assert ask(admission, "first", 1, now=0.2)
    assert ask(admission, "quiet", 1, now=0.2) is None  # it waits for a turn of the other


def test_a_queue_held_at_its_target_stands_until_it_is_half_as_long() -> None:
    admission = standing()
    for left, allowed in ((201, 0.2), (101, 0.2), (100, 1.0)):
        drained(admission, admission.waiting - left, 1.0)
        ask(admission, "other", 1, now=1.0)  # whoever comes finds out
        pile(admission, 2000, 1.0)
        refused = ask(admission, "first", 1, now=1.0)
        assert refused
        assert refused.allowed_s == allowed


def test_a_queue_that_nobody_met_for_long_was_not_standing() -> None:
    admission = standing()
    drained(admission, 300, 9.0)
    for _ in range(1000):  # a burst
        assert ask(admission, "first", 1, now=9.0) is None


@pytest.mark.parametrize(("rate", "rows"), [(100.0, 1), (1000.0, 50)], ids=["slow", "many"])
def test_a_slow_model_and_a_large_request_may_wait_in_proportion(rate: float, rows: int) -> None:
    admission = standing(rate, int(rate))
    allowed_s = max(STRETCH * rows, CALLS * 16) / rate
    assert 0.2 < allowed_s < 1.0
    admission.check("a", rows, now=9.0, left_s=9, idle=True)
    drained(admission, admission.waiting - int(allowed_s * rate), 9.0)
    assert ask(admission, "first", rows, now=10.0) is None
    refused = ask(admission, "first", rows, now=10.0)
    assert refused
    assert refused.allowed_s == pytest.approx(allowed_s)
