"""The thread that watches over calls for which the event loop stands still."""

import itertools
import socket
import threading
from collections.abc import Iterator

import pytest

from app.http.connection.protocol import Unanswered
from app.main import create_app
from app.process.watchdog import send_last_response, start_watchdog
from app.settings import Settings

MOST_S = 0.05
LOOKS = 10  # in that time


def given_up_after(seen: Iterator[float | None]) -> list[float | None]:
    """What was seen until the watch gave up; the last of ``seen`` ends the test."""
    looks: list[float | None] = []
    ended = threading.Event()

    def since() -> float | None:
        looks.append(next(seen))
        return looks[-1]

    start_watchdog(since, MOST_S, ended.set)
    assert ended.wait(10)
    return looks


def test_one_call_that_does_not_end_is_given_up() -> None:
    assert given_up_after(itertools.repeat(7.0)) == [7.0] * (LOOKS + 1)


def test_many_calls_and_pauses_are_not() -> None:
    """Each of them is seen for nearly as long as one may take."""
    calls = [[float(call)] * LOOKS + [None] * (call % 2) for call in range(5)]
    before = list(itertools.chain.from_iterable(calls))
    looks = given_up_after(itertools.chain(before, itertools.repeat(99.0)))
    assert looks == before + [99.0] * (LOOKS + 1)


@pytest.mark.parametrize(
    ("received", "known", "target", "media"),
    [
        (b"GET /v2/models/a HTTP/1.1\r\nHost: test\r\n\r\n", False, b"", "application/json"),
        (b"GET /models HTTP/1.1\r\nHost: test\r\n\r\n", False, b"", "application/problem+json"),
        (b"", True, b"/v2/models/a/infer", "application/json"),
        (b"", True, b"", "application/problem+json"),
        (b"hello", False, b"", "application/problem+json"),
        (b"", False, b"", ""),
    ],
)
def test_who_has_sent_a_request_gets_503_in_the_form_of_its_path_and_others_nothing(
    received: bytes, known: bool, target: bytes, media: str
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(received)
        client = Unanswered(ours.fileno(), known, target)
        send_last_response(client, create_app(Settings()).state.fast_path)
        ours.close()
        response = theirs.recv(65536).decode()
    assert response.startswith("HTTP/1.1 503 " if media else "")
    assert f"content-type: {media}\r\n" in response or not media
    assert ("a model hangs" in response) == bool(media)
