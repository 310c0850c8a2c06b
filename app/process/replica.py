"""The application in a process that another program starts, watches and multiplies.

Ray Serve does (``app.process.ray_serve``). What the server and the supervisor do of themselves,
this does when it is asked: whether the process can go on, its figures, how many there should be.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.service import Service
from app.process.exit_status import ExitStatus
from app.process.server import MAX_BLOCKED_S
from app.process.watchdog import start_watchdog
from app.settings import Settings

log = logging.getLogger(__name__)

AIM_WAIT_S = 0.02  # both as in deploy/kubernetes/hpa.yaml
AIM_BUSY = 0.75
_MOST = 2.0  # times as many replicas as there are, in one step

# Takes a series' name, what it is about, its labels and its value.
Export = Callable[[str, str, Mapping[str, str], float], None]


class Replica:
    """The application, and what its platform asks about it.

    Args:
        app: From ``create_app``.
        settings: Of the service.
        export: Called with every series of /metrics at each check.
        on_blocked: Called in a thread when a model blocks the event loop; None = the process ends.
    """

    def __init__(
        self,
        app: FastAPI,
        settings: Settings,
        export: Export,
        on_blocked: Callable[[], None] | None = None,
    ) -> None:
        self.application = app
        self._settings, self._export = settings, export
        self._on_blocked = on_blocked or _exit_blocked
        self._watched = False
        self._counted = time.monotonic(), time.process_time()

    @property
    def _service(self) -> Service:
        service: Service = self.application.state.service
        return service

    async def check_health(self) -> None:
        """To be called when the application has started, and every few seconds from then on.

        A model that blocks the event loop ends the process from a thread, since nobody would come
        to ask.

        Raises:
            NotReadyError: the process has to be replaced.
        """
        service = self._service
        if not self._watched:
            self._watched = True
            calls = service.batcher.calls
            limit_s = min(self._settings.hang_seconds, MAX_BLOCKED_S)
            start_watchdog(lambda: calls.inline_call_started, limit_s, self._on_blocked)
        service.health.check_alive()
        service.update_gauges()
        for family in service.metrics.collect():
            for sample in family.samples:
                self._export(sample.name, family.documentation, sample.labels, sample.value)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """The predicted wait in s, and how many cores were in use since the last call."""
        batcher = self._service.batcher
        before, now = self._counted, (time.monotonic(), time.process_time())
        self._counted = now
        return {
            "wait_s": batcher.admission.wait_s(batcher.clock()),
            "busy": (now[1] - before[1]) / max(now[0] - before[0], 1e-3),
        }


def _exit_blocked() -> None:
    """What waits is sent to another replica by the proxy, since its connections end."""
    log.critical("a model hangs, and the event loop with it: this process ends")
    logging.shutdown()
    os._exit(ExitStatus.HUNG)


def times_as_many(wait_s: Iterable[float], busy: Iterable[float]) -> float | None:
    """By how much to multiply the number of replicas.

    Args:
        wait_s, busy: Of each replica, as ``Replica.record_autoscaling_stats`` says.

    Returns:
        What brings the worse of both means to its aim, at most 2; None = nothing is known.
    """
    waits, cores = list(wait_s), list(busy)
    if not waits or not cores:
        return None
    worst = max(sum(waits) / len(waits) / AIM_WAIT_S, sum(cores) / len(cores) / AIM_BUSY)
    return min(worst, _MOST)


class _OneRequestId:
    """Of several X-Request-ID in a response, leaves the first, which the application set."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_once(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                ids = [header for header in headers if header[0].lower() == b"x-request-id"]
                others = [header for header in headers if header not in ids]
                message = {**message, "headers": [*others, *ids[:1]]}
            await send(message)

        await self._app(scope, receive, send_once)


def one_request_id() -> list[Middleware]:
    """Outermost: Ray repeats whatever the client sent as X-Request-ID; the log has ours."""
    return [Middleware(_OneRequestId)]
