"""The HTTP server of one process: uvicorn, which listens itself or is handed its connections."""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.lifecycle import drain
from app.core.service import Service
from app.errors import StartupError
from app.http.protocol import answer_last, protocol_with
from app.process.supervisor import UNAVAILABLE_STATUS, Link
from app.process.watchdog import watch
from app.settings import Settings

log = logging.getLogger(__name__)

HUNG_STATUS = 4  # a model hung, or the process could not go on for another reason
_DEAD_LOOKS = 30  # at a red liveness, a second each, in which whoever asks may restart the process
_BEAT_S = 1.0
_SAME_STOP_S = 0.5  # one Ctrl-C comes from the terminal and from the supervisor, in either order
_MOST_STANDSTILL_S = 10.0  # of the event loop; the supervisor waits for a beat a little longer


class _Server(uvicorn.Server):
    """Drains before it stops to listen, and says when it is ready.

    uvicorn alone closes the listening socket first: whoever asks then is refused by the kernel,
    /readyz cannot be asked, and a load balancer that has not noticed yet loses requests.

    Args:
        config: uvicorn's.
        app: The application.
        settings: Its settings.
        ready: Called when requests can be served.
        link: To the supervisor that hands connections over; None = the server listens itself.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        app: FastAPI,
        settings: Settings,
        ready: Callable[[], None],
        link: Link | None,
    ) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._ready = ready
        self._link = link
        self._stopped_at = -math.inf  # when the last signal to stop came
        self.dead = False  # it ends because it could not go on

    @property
    def service(self) -> Service | None:
        """None before the lifespan has started it."""
        return getattr(self._app.state, "service", None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._link and now - self._stopped_at < _SAME_STOP_S:
            return
        self._stopped_at = now
        super().handle_exit(sig, frame)
        if self.service:
            self.service.health.draining = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listeners = sockets or []
        assert self.service
        batcher = self.service.batcher
        most_s = min(self._settings.hang_seconds, _MOST_STANDSTILL_S)
        watch(lambda: batcher.inline_call_started, most_s, self._give_up)
        if self._link:
            self._protocol = self._reporting(self._link)
            asyncio.get_running_loop().add_reader(self._link.fileno(), self._take)
            self._link.tell_ready(on_gpu=self.service.on_gpu)
            self._beat(self._link)
        else:
            self._look_after(0)
        self._ready()

    def _reporting(self, link: Link) -> Callable[[], asyncio.Protocol]:
        """uvicorn's protocol, as its own ``startup`` makes it, telling when a connection ends."""

        class Protocol(self.config.http_protocol_class):  # type: ignore[misc,name-defined]
            def connection_lost(self, error: Exception | None) -> None:
                super().connection_lost(error)
                link.tell_closed()

        return partial(
            Protocol,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=asyncio.get_running_loop(),
        )

    def _give_up(self) -> None:
        """A model hangs in a call for which the event loop stands still, so no liveness can be told
        any more: answer those who wait, or have come since, and end. Runs in another thread.
        """
        try:
            assert self.service
            self.service.batcher.abandoned = True
            lean = self._app.state.lean
            connections: list[Any] = list(self.server_state.connections)
            for connection in connections:
                with contextlib.suppress(Exception):  # it must not cost the others their answer
                    connection.answer_last()
            for new in self._untaken():
                new.setblocking(False)
                answer_last(new.fileno(), lean, waits=False)
            log.critical("a model hangs, and the event loop with it: this process ends")
            logging.shutdown()
        finally:
            os._exit(HUNG_STATUS)

    def _untaken(self) -> Iterator[socket.socket]:
        """Connections that have come and are not known to the event loop yet."""
        if self._link:
            with contextlib.suppress(EOFError):
                yield from self._link.connections()
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.setblocking(False)
                while True:
                    yield listener.accept()[0]

    def _beat(self, link: Link) -> None:
        """Tell the supervisor every second that the event loop turns, and whether all is well."""
        assert self.service
        self.service.update_gauges()
        link.tell_beat(alive=self.service.health.restart_reason() is None)
        asyncio.get_running_loop().call_later(_BEAT_S, self._beat, link)

    def _look_after(self, red: int) -> None:
        """End when nothing but a restart can help; where there is a supervisor, it sees to that.

        Docker alone restarts what has ended, and leaves what is unhealthy as it is. Looks are
        counted and not the time, in which the process may have been stopped.

        Args:
            red: Looks before this one, in a row, at a process that cannot go on.
        """
        assert self.service
        reason = self.service.health.restart_reason()
        red = red + 1 if reason else 0
        if red > _DEAD_LOOKS:
            log.critical("%s; this one ends", reason)
            self.dead = True
            self.handle_exit(signal.SIGTERM, None)
            return
        asyncio.get_running_loop().call_later(_BEAT_S, self._look_after, red)

    def _take(self) -> None:
        """Serve the connections that the supervisor has handed over."""
        assert self._link
        try:
            for connection in self._link.connections():
                task = asyncio.ensure_future(self._connect(connection))
                self.server_state.tasks.add(task)
                task.add_done_callback(self.server_state.tasks.discard)
        except EOFError:  # it is gone, and so is whoever could end this process
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            self.handle_exit(signal.SIGTERM, None)

    async def _connect(self, connection: socket.socket) -> None:
        assert self._link
        try:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # the client was gone already
            connection.close()
            self._link.tell_closed()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        delay_s, limit_s = self._settings.drain_delay_seconds, self._settings.drain_seconds
        ends = time.monotonic() + delay_s + limit_s
        if self.service:
            await drain(self.service, delay_s, limit_s, lambda: self.force_exit)
        if self._link:
            self._link.tell_closing()
        # What is left is for answers that are being sent.
        self.config.timeout_graceful_shutdown = max(1, math.ceil(ends - time.monotonic()))
        await super().shutdown(sockets)


class _OneLineStartup:
    """Answers a failed start-up that a person can mend with a line instead of a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        failed: Message | None = None

        async def held(message: Message) -> None:
            nonlocal failed
            if message["type"] == "lifespan.startup.failed":
                failed = message  # until it is known why
            else:
                await send(message)

        try:
            await self.app(scope, receive, held)
        except StartupError as error:
            print(f"genserve: {error}", file=sys.stderr, flush=True)
            if failed:
                await send({**failed, "message": ""})
        except Exception:
            if failed is None:
                raise
            await send(failed)


def serve(
    app: FastAPI,
    settings: Settings,
    sockets: list[socket.socket],
    ready: Callable[[], None] = lambda: None,
    link: Link | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, and drain.

    Args:
        app: As ``create_app`` gives it.
        settings: Of the service.
        sockets: Bound, to listen on; none where connections come over ``link``.
        ready: As in ``_Server``.
        link: As in ``_Server``.

    Returns:
        The process's exit status.
    """
    config = uvicorn.Config(
        _OneLineStartup(app),
        http=protocol_with(app.state.lean, settings),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # anybody could write them: the client is who is connected
        lifespan="on",
    )
    server = _Server(config, app, settings, ready, link)
    # uvicorn has handlers of its own while it serves, and raises at the end what it has caught: an
    # ordered stop ends with status 0. What comes before is not lost.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    try:
        server.run(sockets)
    except SystemExit:  # uvicorn's, on a failed start-up
        return UNAVAILABLE_STATUS
    except OSError as error:
        if server.started:
            raise
        print(f"genserve: cannot listen: {error.strerror}", file=sys.stderr)
        return UNAVAILABLE_STATUS
    if not server.started:
        return UNAVAILABLE_STATUS
    if server.dead or (server.service and server.service.batcher.hung):
        # The interpreter would wait for the model's thread for ever.
        logging.shutdown()
        os._exit(HUNG_STATUS)
    return 0
