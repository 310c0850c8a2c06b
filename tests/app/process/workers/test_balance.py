"""Which worker gets the next connection."""

from app.process.workers.balance import Load, least_connections


def handed_over(workers: list[Load], count: int, now: float) -> list[int]:
    """How many of ``count`` new connections each gets."""
    before = [worker.open for worker in workers]
    for number in range(1, count + 1):
        least_connections(workers, now)[0].add(number)
    return [worker.open - was for worker, was in zip(workers, before, strict=True)]


def test_the_worker_with_fewest_connections_comes_first() -> None:
    few, many = Load(heard=0.0, open=2), Load(heard=0.0, open=5)
    assert least_connections([many, few], 0.5) == [few, many]


def test_among_equals_the_one_that_got_none_for_longest_comes_first() -> None:
    late, early = Load(heard=0.0, last=9), Load(heard=0.0, last=4)
    assert least_connections([late, early], 0.5) == [early, late]


def test_after_a_crowd_has_left_one_worker_does_not_get_all_that_comes() -> None:
    workers = [Load(heard=0.0), Load(heard=0.0)]
    assert handed_over(workers, 256, 0.5) == [128, 128]
    workers[0].open = 4000  # has not reported yet that they ended
    assert handed_over(workers, 256, 1.5) == [120, 136]
    workers[0].open, workers[1].open = 0, 10  # few: evened out at once
    assert handed_over(workers, 16, 2.4) == [13, 3]


def test_a_silent_worker_gets_what_it_has_less_than_the_other_and_no_more() -> None:
    workers = [Load(heard=0.0, open=100), Load(heard=9.0, open=50)]
    assert handed_over(workers, 80, 9.5) == [15, 65]
