"""When the client asks a busy service again, and when it does not."""

import asyncio
import http.client
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from genserve import (
    ProblemError,
)
from genserve.errors import parse_problem

from tests.client.conftest import Asks
from tests.client.other import other_program
from tests.conftest import running_server


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of both clients, which are not waited for."""
    waits: list[float] = []
    really = asyncio.sleep

    async def sleep(seconds: float, *_: object) -> None:
        if seconds >= 1:
            waits.append(seconds)
        await really(min(seconds, 0.05))

    monkeypatch.setattr("genserve.client.time.sleep", waits.append)
    monkeypatch.setattr("genserve.client.asyncio.sleep", sleep)
    return waits


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again_when_it_says_so_and_not_for_ever(
    asks: Asks, waited: list[float], status: int
) -> None:
    with other_program(status, b"{}", "application/problem+json", Retry_After="3") as (url, asked):
        with pytest.raises(ProblemError) as caught:
            asks(url, "models", settings={"retries": 4})
        assert (caught.value.status, caught.value.retry_after) == (status, 3)
        assert (waited, len(asked)) == ([3, 3, 3, 3], 5)
        waited.clear()
        with pytest.raises(ProblemError):
            asks(url, "models", settings={"longest_wait_s": 8})
        assert waited == [3, 3]
        waited.clear()
        with pytest.raises(ProblemError):
            asks(url, "models", settings={"retries": 0})
        assert waited == []


@pytest.mark.parametrize(
    ("status", "headers"),
    [(503, {}), (503, {"Retry_After": "soon"}), (500, {"Retry_After": "1"}), (504, {})],
)
def test_nothing_else_is_asked_again(
    asks: Asks, waited: list[float], status: int, headers: dict[str, str]
) -> None:
    with (
        other_program(status, b"{}", "application/problem+json", **headers) as (url, asked),
        pytest.raises(ProblemError),
    ):
        asks(url, "models")
    assert (waited, len(asked)) == ([], 1)


def test_a_date_says_when_too() -> None:
    for told, seconds in (
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 0),
        ("7", 7),
    ):
        problem = parse_problem(503, "Busy", {"retry-after": told}, b"", now=100)
        assert problem.retry_after == seconds
    told_wrong = parse_problem(503, "Busy", {"content-type": "application/problem+json"}, b"{", 0)
    assert (told_wrong.detail, told_wrong.errors) == ("Busy", [])


def test_a_service_with_no_place_for_a_dataset_gets_the_request_again(
    tiny_store: Path, asks: Asks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real 503 and its Retry-After; the place is freed while the client waits."""
    options = ("--models-dir", str(tiny_store), "--workers", "1", "--max-datasets", "1")
    with running_server(*options) as server:
        host = urlsplit(server.url).netloc
        other = http.client.HTTPConnection(host)
        other.request("GET", "/dataset?n=1000000&seed=1")
        assert other.getresponse().read(1)  # it is being made, and goes no further unread
        refused = httpx.get(f"{server.url}/dataset?n=10&seed=1")
        assert refused.status_code == 503
        waits: list[float] = []
        really, really_async = time.sleep, asyncio.sleep

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            other.close()
            really(0.2)

        async def sleep_async(seconds: float) -> None:
            if seconds >= 1:
                waits.append(seconds)
                other.close()
            await really_async(min(seconds, 0.2))

        monkeypatch.setattr("genserve.client.time.sleep", sleep)
        monkeypatch.setattr("genserve.client.asyncio.sleep", sleep_async)
        settings = {"retries": 50, "longest_wait_s": 1e6}
        made = asks(server.url, "dataset", tmp_path / "ten.zip", n=10, seed=1, settings=settings)
        assert made.path.read_bytes() == httpx.get(server.url + made.permalink).content
        assert waits
        assert all(wait >= 1 for wait in waits)
