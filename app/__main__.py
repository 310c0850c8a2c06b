"""``python -m app``: serve, with settings from the environment and the command line."""

import logging
import signal
import socket
import sys

import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import StartupError
from app.main import create_app
from app.settings import Settings, unknown_variables

USAGE_STATUS = 2  # a setting is wrong
UNAVAILABLE_STATUS = 3  # nothing to serve, no such device, or the port is taken


def _stop(status: int, message: str) -> None:
    print(f"genserve: {message}", file=sys.stderr)
    raise SystemExit(status)


class _Server(uvicorn.Server):
    """Says where to look once the socket is open: with port 0 only then is the port known."""

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
    config = uvicorn.Config(
        _OneLineStartup(create_app(settings)),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    server = _Server(config)
    # uvicorn shuts down on these and then raises them again: an ordered stop ends with status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run()
    if not server.started:
        raise SystemExit(UNAVAILABLE_STATUS)


if __name__ == "__main__":
    main(sys.argv[1:])
