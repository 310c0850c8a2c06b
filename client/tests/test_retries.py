"""When a busy service gets a request again, and when it does not."""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer
from typing import Any

import pytest

from client.tests.conftest import serving
from genserve import ProblemError, UnreachableError
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


@contextmanager
def closing(kinds: list[str]) -> Iterator[tuple[str, list[bytes]]]:
    """A service whose first connections end after the request: ``fin`` and ``rst`` without a
    response, ``cut`` within it. The next one gets a response."""
    requests: list[bytes] = []
    body = b'{"models": [], "default": "m", "default_encoder": null, "max_n": 1, "refused": {}}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

    class Closing(BaseRequestHandler):
        def handle(self) -> None:
            kind = kinds[len(requests)] if len(requests) < len(kinds) else "whole"
            requests.append(self.request.recv(65536))
            if kind == "rst":
                linger = struct.pack("ii", 1, 0)
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.request.close()  # at once: the server ends a connection with a FIN
            elif kind != "fin":
                whole = head % len(body) + body
                self.request.sendall(whole if kind == "whole" else whole[:-9])

    with serving(TCPServer(("127.0.0.1", 0), Closing)) as url:
        yield url, requests


@pytest.mark.parametrize("kind", ["fin", "rst"])
def test_a_connection_that_ends_before_the_response_is_asked_once_more(
    call: Call, kind: str
) -> None:
    with closing([kind]) as (url, requests):
        call(url, "models")
        assert len(requests) == 2
    with closing([kind, kind]) as (url, requests):
        with pytest.raises(UnreachableError):
            call(url, "models")
        assert len(requests) == 2


def test_a_response_that_is_cut_is_not_asked_for_again(call: Call) -> None:
    with closing(["cut"]) as (url, requests):
        with pytest.raises(UnreachableError):
            call(url, "models")
        assert len(requests) == 1


def test_a_download_that_never_began_is_asked_for_once_more(call: Call, tmp_path: Path) -> None:
    for kinds, error in ((["rst"], "not a dataset of Genserve"), (["rst", "rst"], "no complete")):
        with closing(kinds) as (url, requests), pytest.raises(Exception, match=error):
            call(url, "dataset", tmp_path / "x.zip")
        assert len(requests) == 2
