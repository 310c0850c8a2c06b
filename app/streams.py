"""An answer that is sent while it is made."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.middleware import has_left, is_head


class StreamReply(Response):
    """Sends the parts of a body as they come, no faster than the client takes them.

    Making ends with the client: the generator is closed when it leaves. What fails before the first
    part is answered as any error is; later the connection is cut, so that nobody takes what they
    have for the whole.

    Args:
        parts: The body, at least one part.
        media_type: Its type.
        headers: With Content-Length, if the length is known.
    """

    def __init__(
        self, parts: AsyncGenerator[bytes, None], media_type: str, headers: Mapping[str, str]
    ) -> None:
        self.parts = parts
        self.background = None
        self.status_code = 200
        self.media_type = media_type
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = has_left(receive)
        start = {"status": self.status_code, "headers": self.raw_headers}
        async with aclosing(self.parts) as parts:
            if is_head(scope):  # nothing is begun
                await send({"type": "http.response.start", **start})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            part = await anext(parts)
            await send({"type": "http.response.start", **start})
            await send({"type": "http.response.body", "body": part, "more_body": True})
            async for part in parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
                if left():
                    raise ClientDisconnect
                # Where the server's buffers have room, sending never waits; others want their turn.
                await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
