"""How long queued rows are predicted to take."""

import pytest

from app.batching.service_rate import ServiceRate


def test_small_calls_do_not_teach_that_large_ones_are_slow() -> None:
    rate = ServiceRate(full=64, rate=6400)
    for _ in range(100):
        rate.observe(1, 0.002)  # 500 a second, as one row at a time is
    assert rate.seconds(64) == pytest.approx(0.01)
    for _ in range(30):
        rate.observe(64, 0.1)  # but the device has become slower
    assert rate.seconds(64) == pytest.approx(0.1, rel=0.05)
    for _ in range(30):
        rate.observe(8, 0.001)  # and fast again
    assert rate.rate > 7000


def test_an_unknown_rate_predicts_no_wait_and_learns_from_the_first_call() -> None:
    rate = ServiceRate(full=64)
    assert rate.seconds(1000) == 0
    rate.observe(2, 0.5)
    assert rate.seconds(8) == 2
