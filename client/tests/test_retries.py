"""When a busy service gets a request again, and when it does not."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from genserve import ProblemError
from genserve.errors import parse_problem
from genserve.retries import BusyRetries

Call = Callable[..., Any]
OtherProgram = Callable[..., Any]


def problem(status: int, retry_after: float | None) -> ProblemError:
    return ProblemError(status, "Busy", "come back later", retry_after=retry_after)


def waits(retries: BusyRetries, problem: ProblemError) -> list[float]:
    """The waits until the problem is raised."""
    seconds: list[float] = []
    with suppress(ProblemError):
        while True:
            seconds.append(retries.wait_s(problem))
    return seconds


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_retried_as_it_says_within_both_limits(status: int) -> None:
    busy = problem(status, 3)
    assert waits(BusyRetries(retries=4, longest_wait_s=60), busy) == [3, 3, 3, 3]
    assert waits(BusyRetries(retries=5, longest_wait_s=8), busy) == [3, 3]
    assert waits(BusyRetries(retries=0, longest_wait_s=60), busy) == []
    with pytest.raises(ProblemError) as caught:
        BusyRetries(retries=0, longest_wait_s=60).wait_s(busy)
    assert caught.value is busy


@pytest.mark.parametrize(("status", "retry_after"), [(503, None), (500, 1.0), (504, None)])
def test_no_other_problem_is_retried(status: int, retry_after: float | None) -> None:
    assert waits(BusyRetries(retries=5, longest_wait_s=60), problem(status, retry_after)) == []


def test_retry_after_is_seconds_or_a_date() -> None:
    for header, seconds in (
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 0),
        ("7", 7),
        ("soon", None),
    ):
        parsed = parse_problem(503, "Busy", {"retry-after": header}, b"", now=100)
        assert parsed.retry_after == seconds


def test_a_problem_that_is_no_json_has_the_status_in_words() -> None:
    parsed = parse_problem(503, "Busy", {"content-type": "application/problem+json"}, b"{", 0)
    assert (parsed.detail, parsed.errors) == ("Busy", [])


def test_both_clients_wait_and_send_the_request_again(
    call: Call, other_program: OtherProgram
) -> None:
    settings = {"retries": 2}
    began = time.monotonic()
    with other_program(503, b"{}", "application/problem+json", Retry_After="1") as (url, requests):
        with pytest.raises(ProblemError) as caught:
            call(url, "models", settings=settings)
        assert (caught.value.status, caught.value.retry_after) == (503, 1)
        assert len(requests) == 3
        assert time.monotonic() - began >= 2
    with other_program(500, b"{}", "application/problem+json", Retry_After="1") as (url, requests):
        with pytest.raises(ProblemError):
            call(url, "models", settings=settings)
        assert len(requests) == 1
