"""What a platform such as Ray Serve asks of a process, without the platform."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.errors import NotReadyError
from app.main import create_app
from app.process.replica import AIM_BUSY, AIM_WAIT_S, Replica, one_request_id, times_as_many
from app.settings import Settings
from tests.conftest import batcher_task

HANG_S = 0.05


class Exported:
    """The series of a replica, as its platform gets them."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def __call__(self, name: str, about: str, labels: Mapping[str, str], value: float) -> None:
        assert about
        self.values[name, frozenset(labels.items())] = value


@pytest.fixture
def exported() -> Exported:
    """What was exported."""
    return Exported()


@pytest.fixture
def blocked() -> threading.Event:
    """Set when the watchdog gives the event loop up."""
    return threading.Event()


@pytest.fixture
async def replica(
    tiny_store: Path,
    load_tiny: Callable[[Settings], Any],
    exported: Exported,
    blocked: threading.Event,
) -> AsyncIterator[Replica]:
    """A replica that has started."""
    settings = Settings(models_dir=tiny_store, max_batch=8, hang_seconds=HANG_S)
    app = create_app(settings, loaded_models=load_tiny(settings))
    async with app.router.lifespan_context(app):
        yield Replica(app, settings, exported, blocked.set)


async def test_a_check_hands_over_every_series_of_metrics(
    replica: Replica, exported: Exported
) -> None:
    await replica.check_health()
    series = replica.application.state.service.metrics
    assert set(exported.values) == {
        (sample.name, frozenset(sample.labels.items()))
        for family in series.collect()
        for sample in family.samples
    }
    assert exported.values["genserve_predicted_wait_seconds", frozenset()] == 0
    assert exported.values["genserve_processes", frozenset()] == 1


async def test_a_replica_that_cannot_go_on_fails_its_check(replica: Replica) -> None:
    await replica.check_health()
    batcher_task().cancel()
    await asyncio.sleep(0)
    with pytest.raises(NotReadyError, match="must be restarted"):
        await replica.check_health()


async def test_an_event_loop_that_a_model_blocks_is_given_up_from_a_thread(
    replica: Replica, blocked: threading.Event
) -> None:
    await replica.check_health()
    replica.application.state.service.batcher.calls.inline_call_started = 7.0
    assert blocked.wait(10)  # on the event loop, which stands still


async def test_what_is_queued_is_what_the_autoscaler_sees(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = replica.record_autoscaling_stats()
    assert idle["wait_s"] == 0
    assert idle["busy"] >= 0
    admission = replica.application.state.service.batcher.admission
    monkeypatch.setattr(admission, "wait_s", lambda now: 0.5)
    assert replica.record_autoscaling_stats()["wait_s"] == 0.5


@pytest.mark.parametrize(
    ("wait_s", "busy", "times"),
    [
        ([AIM_WAIT_S] * 2, [0.1] * 2, 1.0),
        ([0.0, 0.0], [AIM_BUSY, AIM_BUSY], 1.0),
        ([0.0, 1.5 * AIM_WAIT_S], [0.1, 0.1], 0.75),
        ([1.2 * AIM_WAIT_S], [AIM_BUSY], 1.2),
        ([0.5], [1.0], 2.0),
        ([0.0], [0.0], 0.0),
        ([], [], None),
        ([0.5], [], None),
    ],
)
def test_the_worse_of_wait_and_cores_says_how_many_replicas_there_should_be(
    wait_s: list[float], busy: list[float], times: float | None
) -> None:
    assert times_as_many(wait_s, busy) == (None if times is None else pytest.approx(times))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([(b"X-Request-ID", b"ours"), (b"a", b"b"), (b"x-request-id", b"theirs")], b"ours"),
        ([(b"a", b"b"), (b"x-request-id", b"only")], b"only"),
    ],
)
async def test_a_response_has_one_request_id_the_application_s(
    given: list[tuple[bytes, bytes]], kept: bytes
) -> None:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": given})
        await send({"type": "http.response.body", "body": b"body"})

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    (middleware,) = one_request_id()
    await middleware.cls(answer, *middleware.args, **middleware.kwargs)({}, None, send)  # type: ignore[arg-type]
    ids = [value for name, value in sent[0]["headers"] if name.lower() == b"x-request-id"]
    assert ids == [kept]
    assert (b"a", b"b") in sent[0]["headers"]
    assert sent[1]["body"] == b"body"
