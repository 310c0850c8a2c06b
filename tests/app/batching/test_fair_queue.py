"""Whose turn it is: no loop, no clock."""

import pytest

from app.batching.fair_queue import FairQueue, RoundRobin, Ticket


def nobody(_: Ticket) -> bool:
    return False


def robin_of(*sizes: int) -> tuple[RoundRobin[Ticket], list[Ticket]]:
    robin: RoundRobin[Ticket] = RoundRobin(4)
    tickets = [Ticket(waiting=size) for size in sizes]
    for ticket in tickets:
        robin.add(ticket)
    return robin, tickets


def test_everyone_gets_a_quantum_before_anyone_gets_two() -> None:
    robin, (large, one, two) = robin_of(64, 1, 2)
    assert robin.take(16, nobody) == [(large, 4 + 9), (one, 1), (two, 2)]
    assert robin.waiting == large.waiting == 51


def test_a_turn_that_the_batch_cut_off_goes_on_in_the_next() -> None:
    robin, (first, second) = robin_of(10, 10)
    assert robin.take(2, nobody) == [(first, 2)]
    assert robin.take(6, nobody) == [(first, 2), (second, 4)]


def test_who_is_over_is_passed_and_taken_out() -> None:
    robin, (gone, stays) = robin_of(10, 3)
    assert robin.take(16, lambda ticket: ticket is gone) == [(stays, 3)]
    assert robin.waiting == 0
    robin.remove(gone)  # again: nothing happens
    assert robin.waiting == 0


@pytest.mark.parametrize(("rows", "before"), [(1, 4 + 1 + 4), (4, 9), (5, 9 + 3 * 4), (99, 69)])
def test_what_goes_before_a_new_request_is_a_quantum_of_each_for_every_turn_it_takes(
    rows: int, before: int
) -> None:
    robin, _ = robin_of(64, 1, 4)
    assert robin.rows_before(rows) == before


def queue_of(*queued: tuple[str, int]) -> tuple[FairQueue[Ticket], list[Ticket]]:
    queue: FairQueue[Ticket] = FairQueue(4)
    tickets = [Ticket(waiting=size, client=client) for client, size in queued]
    for now, ticket in enumerate(tickets):
        queue.add(ticket, now)
    return queue, tickets


def test_clients_take_turns_however_much_one_has_queued() -> None:
    queue, tickets = queue_of(*[("flood", 1)] * 10, ("large", 9), ("quiet", 2))
    flood, large, quiet = tickets[:10], tickets[10], tickets[11]
    assert queue.clients == 3
    assert queue.waiting == 21
    first = [*((ticket, 1) for ticket in flood[:4]), (large, 4), (quiet, 2)]
    assert queue.take(10, 20, nobody) == first
    assert queue.turn_since == 20
    # The room ends within the turn of "flood", which goes on in the next batch.
    assert queue.take(2, 30, nobody) == [(flood[4], 1), (flood[5], 1)]
    assert queue.take(5, 40, nobody) == [(flood[6], 1), (flood[7], 1), (large, 3)]
    assert [queue.waiting_of(client) for client in ("flood", "large", "quiet")] == [2, 2, 0]
    assert queue.waiting == 4


def test_a_first_client_that_asks_anew_does_not_make_its_operation_young() -> None:
    """Others wait behind it, and operations take turns by whose client has waited longest."""
    queue, (impatient, _) = queue_of(("head", 1), ("behind", 1))
    queue.add(Ticket(waiting=1, client="head"), 9)
    queue.remove(impatient)
    assert queue.turn_since == 0


def test_who_leaves_takes_nothing_of_others_along() -> None:
    queue, (one, two, three) = queue_of(("x", 3), ("x", 4), ("y", 5))
    queue.remove(one)
    queue.remove(one)  # again: nothing happens
    assert (queue.waiting_of("x"), queue.waiting, queue.tickets) == (4, 9, [two, three])
    assert queue.take(9, 9, lambda ticket: ticket is two) == [(three, 5)]
    assert (queue.clients, queue.waiting) == (0, 0)


@pytest.mark.parametrize(
    ("client", "rows", "before"),
    [
        ("new", 1, 4 + 2),  # a turn of each
        ("new", 5, 12),  # and a whole turn of each, but not more than waits
        ("quiet", 1, 2 + 4),
        ("flood", 1, 10 + 2),  # its third turn
        ("flood", 99, 10 + 2),
    ],
)
def test_before_a_client_goes_a_turn_of_each_other_for_every_turn_of_its_own(
    client: str, rows: int, before: int
) -> None:
    queue, _ = queue_of(*[("flood", 1)] * 10, ("quiet", 2))
    assert queue.rows_before(rows, client) == before
