"""A failed start in one line instead of a traceback."""

import sys

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import StartupError


class OneLineStartupErrors:
    """ASGI middleware that prints a ``StartupError`` of the lifespan, which a person can mend.

    Args:
        app: Whose lifespan may raise it; other errors pass unchanged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        failed: Message | None = None

        async def hold_failure(message: Message) -> None:
            nonlocal failed
            if message["type"] == "lifespan.startup.failed":
                failed = message  # Starlette sends it, with a traceback, before it raises
            else:
                await send(message)

        try:
            await self.app(scope, receive, hold_failure)
        except StartupError as error:
            sys.stderr.write(f"genserve: {error}\n")  # in one write, as ``app.__main__.fail``
            if failed:
                await send({**failed, "message": ""})
        except Exception:
            if failed is None:
                raise
            await send(failed)
