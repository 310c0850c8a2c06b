"""Whose job is next, without any process."""

import pytest

from app.codec.turns import FullError, Turn, Turns


class Jobs:
    """Jobs in the order in which they got their turn."""

    def __init__(self, **limits: int | float) -> None:
        options = {"slots": 1, "slots_per_client": 1, "most_jobs": 100, "most_bytes": 1000}
        self.turns = Turns(**(options | limits))  # type: ignore[arg-type]
        self.running: list[str] = []
        self._turns: dict[str, Turn] = {}

    def ask(self, name: str, memory: int = 0, size: int = 0) -> None:
        """A job; the first letter of its name is its client."""
        turn = Turn(
            client=name[0],
            memory=memory,
            size=size,
            on_turn=lambda: self.running.append(name),
        )
        self._turns[name] = turn
        self.turns.ask(turn)

    def end(self, name: str) -> None:
        self.turns.end(self._turns[name])
        if name in self.running:
            self.running.remove(name)


def test_clients_take_turns_however_many_jobs_one_has() -> None:
    jobs = Jobs()
    for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
        jobs.ask(name)
    order = []
    while jobs.running:
        (name,) = jobs.running
        order.append(name)
        jobs.end(name)
    assert order == ["a1", "a2", "b1", "c1", "a3", "b2"]


def test_one_client_leaves_a_slot_for_the_others() -> None:
    jobs = Jobs(slots=3, slots_per_client=2)
    for name in ("a1", "a2", "a3", "a4"):
        jobs.ask(name)
    assert jobs.running == ["a1", "a2"]
    jobs.ask("b1")
    assert jobs.running == ["a1", "a2", "b1"]
    jobs.end("b1")
    assert jobs.running == ["a1", "a2"]
    jobs.end("a1")
    assert jobs.running == ["a2", "a3"]


def test_memory_is_never_given_twice_and_only_small_jobs_pass_one_that_waits_for_it() -> None:
    jobs = Jobs(slots=4, slots_per_client=4, memory=10, passing=2)
    jobs.ask("a1", memory=7)
    jobs.ask("b1", memory=8)
    jobs.ask("c1", memory=3)
    jobs.ask("d1", memory=2)
    assert jobs.running == ["a1", "d1"]
    jobs.end("a1")
    assert jobs.running == ["d1", "b1"]
    jobs.end("b1")
    assert jobs.running == ["d1", "c1"]


def test_a_job_that_nobody_waits_for_leaves_the_queue_and_frees_what_it_holds() -> None:
    jobs = Jobs(most_jobs=2, most_bytes=10)
    jobs.ask("a1")
    jobs.ask("a2", size=10)
    with pytest.raises(FullError):
        jobs.ask("b1", size=1)
    jobs.end("a2")
    jobs.ask("b2", size=10)
    jobs.end("a1")
    assert jobs.running == ["b2"]
    assert jobs.turns.waiting == 0


def test_what_has_no_room_is_refused_and_whoever_fills_the_queue_is_told_so() -> None:
    jobs = Jobs(most_jobs=4, max_share=0.5)
    for name in ("a1", "a2", "a3"):  # one runs, two wait
        jobs.ask(name)
    with pytest.raises(FullError) as refusal:
        jobs.ask("a4")
    assert (refusal.value.own, refusal.value.waiting) == (None, 2)  # nobody else is here
    jobs.ask("b1")
    with pytest.raises(FullError) as refusal:
        jobs.ask("a5")
    assert (refusal.value.own, refusal.value.waiting) == (2, 3)
    jobs.ask("c1")
    with pytest.raises(FullError) as refusal:
        jobs.ask("d1")
    assert refusal.value.own is None  # it has nothing there itself


def test_whoever_finds_nothing_waiting_is_let_in_whatever_its_size() -> None:
    jobs = Jobs(most_bytes=10)
    jobs.ask("a1", size=1000)
    assert jobs.running == ["a1"]
