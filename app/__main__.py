"""``python -m app``: serve, with settings from the environment and the command line."""

import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import StartupError
from app.main import create_app
from app.protocol import stalling_after
from app.service import Service
from app.settings import Settings, unknown_variables

USAGE_STATUS = 2  # a setting is wrong
UNAVAILABLE_STATUS = 3  # nothing to serve, no such device, or the port is taken
HUNG_STATUS = 4  # ended as asked, but a model still hung


def _stop(status: int, message: str) -> None:
    print(f"genserve: {message}", file=sys.stderr)
    raise SystemExit(status)


class _Server(uvicorn.Server):
    """Says where to look once the socket is open, and drains before it is closed.

    uvicorn alone closes the listening socket first: whoever asks then is refused by the kernel,
    /readyz cannot be asked, and a load balancer that has not noticed yet loses requests.
    """

    def __init__(
        self, config: uvicorn.Config, service: Callable[[], Service | None], settings: Settings
    ) -> None:
        super().__init__(config)
        self._service = service
        self._settings = settings

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if service := self._service():
            service.start_draining()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        delay_s, limit_s = self._settings.drain_delay_seconds, self._settings.drain_seconds
        ends = time.monotonic() + delay_s + limit_s
        if service := self._service():
            await service.drain(delay_s, limit_s, lambda: self.force_exit)
        # What is left is for answers that are being sent.
        self.config.timeout_graceful_shutdown = max(1, math.ceil(ends - time.monotonic()))
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in getattr(self, "servers", []):
            host, port = server.sockets[0].getsockname()[:2]
            shown_host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
            if ":" in shown_host and not shown_host.startswith("["):
                shown_host = f"[{shown_host}]"
            print(f"Genserve is ready: open http://{shown_host}:{port}/", flush=True)


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
            print(f"genserve: {error}", file=sys.stderr)
            if failed:
                await send({**failed, "message": ""})
        except Exception:
            if failed is None:
                raise
            await send(failed)


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM or SIGINT."""
    if unknown := unknown_variables():
        _stop(USAGE_STATUS, f"unknown setting in the environment: {', '.join(unknown)}")
    try:
        settings = CliApp.run(Settings, cli_args=arguments)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        _stop(USAGE_STATUS, f"{where}: {first['msg'].removeprefix('Value error, ')}")
    except SettingsError as error:
        _stop(USAGE_STATUS, str(error))

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    app = create_app(settings)
    config = uvicorn.Config(
        _OneLineStartup(app),
        host=settings.host,
        port=settings.port,
        http=stalling_after(settings.stall_seconds),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
    )

    def service() -> Service | None:
        """None before the lifespan has started it."""
        return getattr(app.state, "service", None)

    server = _Server(config, service, settings)
    # uvicorn shuts down on these and then raises them again: an ordered stop ends with status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run()
    if not server.started:
        raise SystemExit(UNAVAILABLE_STATUS)
    if (served := service()) and served.batcher.hung:
        # The interpreter would wait for the model's thread for ever.
        logging.shutdown()
        os._exit(HUNG_STATUS)


if __name__ == "__main__":
    main(sys.argv[1:])
