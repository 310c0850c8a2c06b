"""Whose turn it is, how long it will take, and who is let in: no loop, no clock."""

import pytest

from app.batching.admission import Admission, OverloadError, QueueConfig
from app.batching.fair_queue import Shares, Ticket, Turns
from app.batching.service_rate import ServiceRate


def nobody(_: Ticket) -> bool:
    return False


def queue_of(*sizes: int, tile: int = 4) -> tuple[Turns[Ticket], list[Ticket]]:
    turns: Turns[Ticket] = Turns(tile)
    tickets = [Ticket(waiting=size) for size in sizes]
    for ticket in tickets:
        turns.add(ticket)
    return turns, tickets


def test_everyone_gets_a_tile_before_anyone_gets_two() -> None:
    turns, (large, one, two) = queue_of(64, 1, 2)
    assert turns.take(16, nobody) == [(large, 4 + 9), (one, 1), (two, 2)]
    assert turns.waiting == large.waiting == 51


def test_a_turn_that_the_batch_cut_off_goes_on_in_the_next() -> None:
    turns, (first, second) = queue_of(10, 10)
    assert turns.take(2, nobody) == [(first, 2)]
    assert turns.take(6, nobody) == [(first, 2), (second, 4)]


def test_who_is_over_is_passed_and_taken_out() -> None:
    turns, (gone, stays) = queue_of(10, 3)
    assert turns.take(16, lambda ticket: ticket is gone) == [(stays, 3)]
    assert turns.waiting == 0
    turns.remove(gone)  # again: nothing happens
    assert turns.waiting == 0


@pytest.mark.parametrize(("rows", "ahead"), [(1, 4 + 1 + 4), (4, 9), (5, 9 + 3 * 4), (99, 69)])
def test_what_goes_before_a_new_request_is_a_tile_of_each_for_every_turn_it_takes(
    rows: int, ahead: int
) -> None:
    turns, _ = queue_of(64, 1, 4)
    assert turns.ahead_of(rows) == ahead


def test_small_calls_do_not_teach_that_large_ones_are_slow() -> None:
    service_rate = ServiceRate(full=64, rate=6400)
    for _ in range(100):
        service_rate.observe(1, 0.002)  # 500 a second, as one row at a time is
    assert service_rate.seconds(64) == pytest.approx(0.01)
    for _ in range(30):
        service_rate.observe(64, 0.1)  # but the device has become slower
    assert service_rate.seconds(64) == pytest.approx(0.1, rel=0.05)
    for _ in range(30):
        service_rate.observe(8, 0.001)  # and fast again
    assert service_rate.rate > 7000


def test_an_unknown_pace_predicts_no_wait_and_learns_from_the_first_call() -> None:
    service_rate = ServiceRate(full=64)
    assert service_rate.seconds(1000) == 0
    service_rate.observe(2, 0.5)
    assert service_rate.seconds(8) == 2


def admission(queue_limit: int = 100) -> Admission[str, Ticket]:
    lanes = {"a": QueueConfig(16, 10.0), "b": QueueConfig(16, 100.0)}
    return Admission(lanes, queue_limit, max_queue_s=1.0)


def test_the_wait_is_what_runs_and_what_goes_before_in_every_lane() -> None:
    queues = admission()
    assert queues.wait_s(now=0) == 0
    queues.call_ends = 7.5
    assert queues.wait_s(now=7.0) == 0.5
    queues.lane("a").queue.add(Ticket(waiting=2), 7.0)
    queues.lane("b").queue.add(Ticket(waiting=30), 7.0)
    assert queues.wait_s(now=7.0) == pytest.approx(0.5 + 2 / 10 + 4 / 100)
    assert queues.wait_s(now=7.0, rows=8) == pytest.approx(0.5 + 2 / 10 + 8 / 100)
    assert queues.retry_after_s(now=7.0) == 1
    queues.lane("a").queue.add(Ticket(waiting=28), 7.0)
    assert queues.retry_after_s(now=7.0) == 4  # 0.5 + 30 / 10 + 30 / 100


def test_refusals_say_which_limit_it_was() -> None:
    queues = admission(queue_limit=30)
    queues.check("b", 30, now=0, left_s=9, idle=True)
    with pytest.raises(OverloadError, match="queue"):
        queues.check("b", 31, now=0, left_s=9, idle=True)
    for _ in range(4):
        queues.lane("a").queue.add(Ticket(waiting=3), 0)
    queues.check("b", 1, now=0, left_s=9, idle=True)  # nothing runs: it costs nothing to try
    with pytest.raises(OverloadError, match="wait") as caught:
        queues.check("b", 1, now=0, left_s=9, idle=False)
    assert caught.value.predicted_s == pytest.approx(1.2)
    assert caught.value.allowed_s == 1.0
    assert caught.value.retry_after_s == 2
    queues = admission()
    queues.lane("a").queue.add(Ticket(waiting=4), 0)
    queues.check("a", 2, now=0, left_s=0.7, idle=False)
    with pytest.raises(OverloadError, match="deadline"):
        queues.check("a", 2, now=0, left_s=0.5, idle=False)


def shares_of(*queued: tuple[str, int], tile: int = 4) -> tuple[Shares[Ticket], list[Ticket]]:
    shares: Shares[Ticket] = Shares(tile)
    tickets = [Ticket(waiting=size, client=client) for client, size in queued]
    for now, ticket in enumerate(tickets):
        shares.add(ticket, now)
    return shares, tickets


def test_clients_take_turns_however_much_one_has_queued() -> None:
    shares, tickets = shares_of(*[("flood", 1)] * 10, ("large", 9), ("quiet", 2))
    flood, large, quiet = tickets[:10], tickets[10], tickets[11]
    assert shares.clients == 3
    assert shares.waiting == 21
    first = [*((ticket, 1) for ticket in flood[:4]), (large, 4), (quiet, 2)]
    assert shares.take(10, 20, nobody) == first
    assert shares.turn == 20
    # The room ends within the turn of "flood", which goes on in the next batch.
    assert shares.take(2, 30, nobody) == [(flood[4], 1), (flood[5], 1)]
    assert shares.take(5, 40, nobody) == [(flood[6], 1), (flood[7], 1), (large, 3)]
    assert [shares.of(client) for client in ("flood", "large", "quiet")] == [2, 2, 0]
    assert shares.waiting == 4


def test_a_first_client_that_asks_anew_does_not_make_its_lane_young() -> None:
    """Others wait behind it, and lanes take turns by who has waited longest."""
    shares, (impatient, _) = shares_of(("head", 1), ("behind", 1))
    shares.add(Ticket(waiting=1, client="head"), 9)
    shares.remove(impatient)
    assert shares.turn == 0


def test_who_leaves_takes_nothing_of_others_along() -> None:
    shares, (one, two, three) = shares_of(("x", 3), ("x", 4), ("y", 5))
    shares.remove(one)
    shares.remove(one)  # again: nothing happens
    assert (shares.of("x"), shares.waiting, shares.tickets) == (4, 9, [two, three])
    assert shares.take(9, 9, lambda ticket: ticket is two) == [(three, 5)]
    assert (shares.clients, shares.waiting) == (0, 0)


@pytest.mark.parametrize(
    ("client", "rows", "ahead"),
    [
        ("new", 1, 4 + 2),  # a turn of each
        ("new", 5, 12),  # and a whole turn of each, but not more than waits
        ("quiet", 1, 2 + 4),
        ("flood", 1, 10 + 2),  # its third turn
        ("flood", 99, 10 + 2),
    ],
)
def test_before_a_client_goes_a_turn_of_each_other_for_every_turn_of_its_own(
    client: str, rows: int, ahead: int
) -> None:
    shares, _ = shares_of(*[("flood", 1)] * 10, ("quiet", 2))
    assert shares.ahead_of(rows, client) == ahead


def crowded() -> Admission[str, Ticket]:
    """100 rows a second, at most one second of wait and 100 rows, of which a client has half."""
    return Admission({"a": QueueConfig(16, 100.0)}, 100, max_queue_s=1.0, max_share=0.5)


def ask(
    queues: Admission[str, Ticket], client: str | None, rows: int, now: float = 0.0
) -> OverloadError | None:
    try:
        queues.check("a", rows, now, left_s=9, idle=False, client=client)
    except OverloadError as error:
        return error
    queues.lane("a").queue.add(Ticket(waiting=rows, client=client), now)
    return None


def test_one_client_leaves_room_in_the_queue_and_several_get_as_much_each() -> None:
    queues = crowded()
    assert ask(queues, "first", 50) is None
    alone = ask(queues, "first", 1)
    assert alone
    assert (alone.reason, alone.own_rows) == ("queue", None)  # nobody else is there
    assert ask(queues, "second", 25) is None  # half of what is left
    beside = ask(queues, "first", 1)
    assert beside
    assert (beside.reason, beside.own_rows) == ("queue", 50)
    over = ask(queues, "second", 1)
    assert over
    assert (over.reason, over.own_rows) == ("queue", None)  # it has less than the other
    assert ask(queues, "third", 25) is None  # who has nothing there may take all that is left
    assert ask(queues, None, 1)  # full, also for who is nobody in particular


def test_who_asked_long_ago_is_not_there_any_more() -> None:
    queues = crowded()
    assert ask(queues, "other", 1, now=0) is None
    assert ask(queues, "flood", 50, now=1) is None
    for now, own in ((1.0, None), (0.9, 50)):  # a second after "other", and sooner
        refused = ask(queues, "flood", 1, now=now)
        assert refused
        assert refused.own_rows == own


def test_who_waits_behind_itself_alone_is_refused_and_others_are_not() -> None:
    queues = Admission[str, Ticket]({"a": QueueConfig(16, 100.0)}, 1000, max_queue_s=1.0)
    assert ask(queues, "quiet", 1) is None
    while (refused := ask(queues, "flood", 1)) is None:
        pass
    assert (refused.reason, refused.own_rows) == ("wait", 100)  # and one of "quiet"
    assert ask(queues, "quiet", 1) is None
    assert queues.wait_s(0) == pytest.approx((4 + 2) / 100)  # of a client that has nothing there
