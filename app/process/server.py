"""The HTTP server of one process: uvicorn, which drains before it stops to listen."""

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
from types import FrameType
from typing import NoReturn, cast

import uvicorn
from fastapi import FastAPI

from app.core.lifecycle import drain, wait
from app.core.service import Service
from app.fork import STOP_SIGNALS
from app.http.connection.protocol import ServiceProtocol, service_protocol
from app.http.cors import default_headers
from app.process.exit_status import ExitStatus
from app.process.handover import HandedOver, protocol_factory
from app.process.hangup import terminal_has_closed
from app.process.sockets import ignore_new_clients
from app.process.startup_errors import OneLineStartupErrors
from app.process.watchdog import answer_waiting, start_watchdog
from app.process.workers.channel import EXCHANGE, WorkerChannel
from app.settings import Settings

log = logging.getLogger(__name__)

_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
_ALONE = "one process serves alone; start it with --reload signal, or with several --workers"
_EXCHANGE_S = 2.0  # that clients of an exchanged worker have to send what they meant to send
_HEARTBEAT_S = 1.0
_SAME_STOP_S = 0.5  # one Ctrl-C comes from the terminal and from the supervisor, in either order
_LAST_S = 1.0  # for the supervisor to hand over the last connections
_BETWEEN_S = 0.2  # longer than a busy client takes from a response to its next request
MAX_BLOCKED_S = 10.0  # of the event loop; the supervisor waits for a heartbeat a little longer


def serve(
    app: FastAPI,
    settings: Settings,
    sockets: list[socket.socket],
    on_ready: Callable[[], None] = lambda: None,
    channel: WorkerChannel | None = None,
    dead_s: float = math.inf,
) -> int:
    """Serve until SIGTERM or SIGINT, or until the terminal closes, and drain.

    Args:
        app: From ``create_app``.
        settings: Of the service.
        sockets: Bound, to listen on; none where connections come over ``channel``.
        on_ready, channel, dead_s: As in ``DrainingServer``.

    Returns:
        The process's exit status.
    """
    config = uvicorn.Config(
        OneLineStartupErrors(app),
        http=service_protocol(
            app.state.fast_path,
            settings,
            on_closed=channel.send_closed if channel else lambda: None,
            access_log=app.state.access_log,
        ),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # any client could write them: the client is who is connected
        headers=default_headers(settings),
        lifespan="on",
    )
    server = DrainingServer(config, app, settings, on_ready, channel, dead_s)
    # uvicorn replaces these handlers while it serves, and at the end raises the signal again for
    # them. With ours an ordered stop ends with status 0, and an early signal is not lost.
    for number in (*STOP_SIGNALS, *([EXCHANGE] if channel else ())):
        signal.signal(number, server.handle_exit)
    try:
        server.run(sockets)
    except SystemExit:  # raised by uvicorn when the start fails
        return ExitStatus.UNAVAILABLE
    except OSError as error:
        if server.started:
            raise
        print(f"genserve: cannot listen: {error.strerror}", file=sys.stderr)
        return ExitStatus.UNAVAILABLE
    if not server.started:
        return ExitStatus.UNAVAILABLE
    if server.hung:
        server.exit()
    return 0


class DrainingServer(uvicorn.Server):
    """Finishes what was accepted before it stops to listen.

    uvicorn alone closes the listening socket first: new clients are refused by the kernel, /readyz
    cannot be asked, and a load balancer that has not noticed yet loses requests.

    Args:
        config: Of uvicorn.
        app: The application.
        settings: Its settings.
        on_ready: Called when requests can be served.
        channel: To the supervisor that hands connections over; None = the server listens itself.
        dead_s: A process without a supervisor ends after so many seconds with a red /livez: until
            then whoever asks may restart it.
        clock: In s, monotonic.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        app: FastAPI,
        settings: Settings,
        on_ready: Callable[[], None] = lambda: None,
        channel: WorkerChannel | None = None,
        dead_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._on_ready = on_ready
        self._channel = channel
        self._dead_s = dead_s
        self._clock = clock
        self._stopped_at = -math.inf  # when the last signal to stop came
        self._exchanged = False  # another worker takes its place
        self.dead = False  # it ends because it could not go on

    @property
    def service(self) -> Service | None:
        """None before the lifespan has started it."""
        return getattr(self._app.state, "service", None)

    @property
    def hung(self) -> bool:
        """Whether the process ends because it could not go on."""
        return self.dead or bool(self.service and self.service.batcher.hung)

    def exit(self) -> NoReturn:
        """End now: the interpreter would wait for the model's thread, for ever if that hangs."""
        logging.shutdown()
        os._exit(ExitStatus.HUNG if self.hung else 0)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == _HANGUP and not terminal_has_closed():  # the supervisor loads anew
            if not self._channel:
                log.warning("not reloaded: %s", _ALONE)
            return
        now = self._clock()
        if self._channel and now - self._stopped_at < _SAME_STOP_S:
            return
        self._stopped_at = now
        self._exchanged = sig == EXCHANGE
        super().handle_exit(sig, frame)  # a second SIGINT does not wait
        self._app.state.fast_path.draining = True
        if self.service and not self._exchanged:
            self.service.health.draining = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listeners = sockets or []
        assert self.service
        batcher = self.service.batcher
        limit_s = min(self._settings.hang_seconds, MAX_BLOCKED_S)
        start_watchdog(lambda: batcher.calls.inline_call_started, limit_s, self._exit_blocked)
        if self._channel:
            self._handed_over = HandedOver(self._channel, self, self._on_last_connection)
            self._channel.send_ready(on_gpu=self.service.on_gpu)
            self._send_heartbeats(self._channel)
        else:
            self._end_when_dead(0)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        delay_s, limit_s = self._settings.drain_delay_seconds, self._settings.drain_seconds
        ends = self._clock() + delay_s + limit_s
        connections = cast(set[ServiceProtocol], self.server_state.connections)
        for connection in connections:
            connection.close_after_response()
        if self._exchanged:  # the service goes on: no request of these clients is refused
            await asyncio.sleep(_BETWEEN_S)  # some may just have been handed over
            await wait(_EXCHANGE_S, lambda: not connections or not self._exchanged)
        if self.service:
            await drain(self.service, delay_s, limit_s, lambda: self.force_exit)
        if self._channel:
            self._channel.send_closing()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._handed_over.ended.wait(), _LAST_S)
        else:
            await self._serve_last()
        # A client between two requests still gets an answer to the next one.
        if connections and not self.force_exit:
            await asyncio.sleep(_BETWEEN_S)
        # What is left is for answers that are being sent.
        self.config.timeout_graceful_shutdown = max(1, math.ceil(ends - self._clock()))
        if not self.force_exit:
            await super().shutdown(sockets)
        if self.force_exit:
            self.exit()

    async def _serve_last(self) -> None:
        """Stop to listen. What the kernel has accepted by then is served: it would be reset."""
        for listener in self._listeners:
            ignore_new_clients(listener)
        accepted = list(self._new_connections())
        for server in self.servers:
            server.close()
        for listener in self._listeners:
            listener.close()
        loop = asyncio.get_running_loop()
        for connection in accepted:
            with contextlib.suppress(OSError):  # the client has gone
                await loop.connect_accepted_socket(protocol_factory(self), connection)

    def _on_last_connection(self) -> None:
        """The supervisor hands over no more connections: it has ended, or answers our message."""
        if not self.should_exit:
            self.handle_exit(signal.SIGTERM, None)

    def _send_heartbeats(self, channel: WorkerChannel) -> None:
        """Send the supervisor a heartbeat each second; it replaces a worker that cannot go on."""
        assert self.service
        self.service.update_gauges()
        channel.send_heartbeat(alive=self.service.health.restart_reason() is None)
        asyncio.get_running_loop().call_later(_HEARTBEAT_S, self._send_heartbeats, channel)

    def _end_when_dead(self, red: int) -> None:
        """End this process when only a restart can help: Docker alone restarts what has ended, and
        leaves what is unhealthy running.

        Looks are counted instead of time, in which the process may have been suspended.

        Args:
            red: Looks in a row, one a second, that found it unable to go on.
        """
        assert self.service
        reason = self.service.health.restart_reason()
        red = red + 1 if reason else 0
        if red > self._dead_s:
            log.critical("%s; this one ends", reason)
            self.dead = True
            self.handle_exit(signal.SIGTERM, None)
            return
        asyncio.get_running_loop().call_later(_HEARTBEAT_S, self._end_when_dead, red)

    def _exit_blocked(self) -> None:
        """Answer every client and end, from another thread: /livez cannot be answered any more."""
        try:
            assert self.service
            self.service.batcher.calls.abandoned = True
            connections = cast(list[ServiceProtocol], list(self.server_state.connections))
            answer_waiting(connections, self._new_connections(), self._app.state.fast_path)
            log.critical("a model hangs, and the event loop with it: this process ends")
            logging.shutdown()
        finally:
            os._exit(ExitStatus.HUNG)

    def _new_connections(self) -> Iterator[socket.socket]:
        """Connections that the event loop has not taken yet."""
        if self._channel:
            with contextlib.suppress(EOFError):
                yield from self._channel.connections()
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.setblocking(False)
                while True:
                    yield listener.accept()[0]
