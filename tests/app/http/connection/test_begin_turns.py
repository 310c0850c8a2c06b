"""Requests begin a few in a turn of the event loop, clients by turns."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.http.connection.begin_turns import TURN_S, BeginTurns


class Loop:
    """An event loop whose turns are taken by hand."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], None]] = []
        self.now = 0.0

    def call_soon(self, call: Callable[[], None]) -> None:
        self._soon.append(call)

    def turn(self) -> None:
        calls, self._soon = self._soon, []
        assert len(calls) <= 1, "two calls in a turn would begin twice as many"
        for call in calls:
            call()

    @property
    def idle(self) -> bool:
        return not self._soon


class Requests:
    """Of two clients; what was begun, in order."""

    def __init__(self, most: int) -> None:
        self.loop = Loop()
        self.turns = BeginTurns(self.loop.call_soon, most, lambda: self.loop.now)
        self.begun: list[str] = []
        self.gone: set[str] = set()

    def ask(self, client: str, number: int) -> None:
        name = f"{client}{number}"

        def begin() -> bool:
            if name not in self.gone:
                self.begun.append(name)
            return name not in self.gone

        self.turns.ask(client, begin)

    def new(self) -> list[str]:
        found, self.begun = self.begun, []
        return found


@pytest.fixture
def requests() -> Requests:
    return Requests(3)


def test_a_few_begin_at_once_and_the_others_wait_for_a_turn(requests: Requests) -> None:
    for number in range(7):
        requests.ask("a", number)
    assert requests.new() == ["a0", "a1", "a2"]
    requests.loop.turn()
    assert requests.new() == ["a3", "a4", "a5"]
    requests.loop.turn()
    assert requests.new() == ["a6"]
    requests.ask("a", 7)  # in the room that this turn has
    requests.ask("a", 8)
    requests.ask("a", 9)
    assert requests.new() == ["a7", "a8"]
    requests.loop.turn()
    assert requests.new() == ["a9"]
    requests.loop.turn()
    assert requests.loop.idle


def test_who_asks_for_little_does_not_wait_behind_who_asks_for_much(requests: Requests) -> None:
    for number in range(100):
        requests.ask("a", number)
    requests.ask("b", 0)
    requests.new()
    requests.loop.turn()
    assert requests.new() == ["a3", "b0", "a4"]


def test_those_whose_client_has_left_take_nobodys_place(requests: Requests) -> None:
    for number in range(10):
        requests.ask("a", number)
    requests.new()
    requests.gone = {f"a{number}" for number in range(3, 8)}
    requests.loop.turn()
    assert requests.new() == ["a8", "a9"]
    requests.gone.add("b0")
    requests.ask("b", 0)
    requests.ask("b", 1)
    assert requests.new() == ["b1"]


def test_fewer_begin_while_turns_take_long_and_more_again_when_they_do_not() -> None:
    requests = Requests(16)
    for number in range(300):
        requests.ask("a", number)

    def begun_after(seconds: float) -> int:
        requests.loop.now += seconds
        requests.loop.turn()
        return len(requests.new())

    requests.new()
    assert begun_after(TURN_S / 2) == 16
    assert begun_after(3 * TURN_S) == 5
    assert begun_after(100 * TURN_S) == 1
    assert begun_after(100 * TURN_S) == 1
    assert [begun_after(TURN_S / 2) for _ in range(17)] == [*range(2, 17), 16, 16]


def test_one_that_fails_stops_no_other(requests: Requests) -> None:
    def fails() -> bool:
        raise RuntimeError("no request")

    for number in range(3):
        requests.ask("a", number)
    requests.turns.ask("a", fails)
    requests.ask("a", 4)
    requests.new()
    with pytest.raises(RuntimeError):
        requests.loop.turn()
    requests.loop.turn()
    assert requests.new() == ["a4"]


async def test_the_wait_for_a_turn_counts(make_wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a deadline, and in the metrics."""
    held: list[Callable[[], bool]] = []
    wire = await make_wire()
    with monkeypatch.context() as patch:
        patch.setattr(BeginTurns, "ask", lambda self, client, begin: held.append(begin))
        path = "/interpolate?seeds=1,2&label=7&steps=3"
        asked = asyncio.create_task(wire.get(path, headers={"X-Timeout-Ms": "40"}))
        async with asyncio.timeout(30):
            while not held:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    await asyncio.sleep(0.05)  # as a turn would take to come
    held[0]()
    answer = await asked
    assert answer.status_code in (503, 504), answer.text
    assert (await wire.get(path, headers={"X-Timeout-Ms": "9000"})).status_code == 200


async def test_requests_of_one_client_beyond_a_turn_are_all_answered(
    wire: httpx.AsyncClient,
) -> None:
    answers = await asyncio.gather(*(wire.get("/status") for _ in range(60)))
    assert [answer.status_code for answer in answers] == [200] * 60
