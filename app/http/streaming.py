"""An answer that is sent while it is made."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.errors import RangeNotSatisfiableError
from app.http.disconnect import client_disconnected
from app.http.middleware import is_head
from app.http.ranges import Rest


class StreamReply(Response):
    """Sends the parts of a body as they come, no faster than the client takes them.

    Making ends with the client: the generator is closed when it leaves. What fails before the first
    part is answered as any error is; later the connection is cut, so that nobody takes what they
    have for the whole.

    Args:
        parts: The body, at least one part.
        media_type: Its type.
        headers: With Content-Length, if the length of the whole is known.
        rest: Send only this. What comes before it is made all the same, for the end of the file
            depends on it, and dropped.
    """

    def __init__(
        self,
        parts: AsyncGenerator[bytes, None],
        media_type: str,
        headers: Mapping[str, str],
        rest: Rest | None = None,
    ) -> None:
        self.parts = parts
        self.skip = 0
        self.background = None
        self.status_code = 200
        if rest is not None:
            self.skip, self.status_code = rest.skip, 206
            headers = {**headers, "Content-Range": rest.content_range}
            if length := headers.get("Content-Length"):
                headers["Content-Length"] = str(int(length) - rest.skip)
        self.media_type = media_type
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = client_disconnected(receive)
        start = {"status": self.status_code, "headers": self.raw_headers}
        async with aclosing(self.parts) as parts:
            if is_head(scope):  # nothing is begun
                await send({"type": "http.response.start", **start})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            async with aclosing(_after(self.skip, parts, left)) as wanted:
                part = await anext(wanted)
                await send({"type": "http.response.start", **start})
                await send({"type": "http.response.body", "body": part, "more_body": True})
                async for part in wanted:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                    await _between(left)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _between(left: Callable[[], bool]) -> None:
    """Between two parts."""
    if left():
        raise ClientDisconnect
    # Where the server's buffers have room, sending never waits; others want their turn.
    await asyncio.sleep(0)


async def _after(
    skip: int, parts: AsyncGenerator[bytes, None], left: Callable[[], bool]
) -> AsyncGenerator[bytes, None]:
    """The parts without their first ``skip`` bytes.

    Raises:
        RangeNotSatisfiableError: there are no more than that.
    """
    seen = 0
    async for part in parts:
        seen += len(part)
        if seen > skip:
            yield part[skip - seen :]
        else:
            await _between(left)
    if seen <= skip:
        raise RangeNotSatisfiableError.at(skip, seen)
