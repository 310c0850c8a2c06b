"""A response that is sent while it is generated."""

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


class StreamedResponse(Response):
    """Sends the parts of a body as they are generated, no faster than the client takes them.

    The generator is closed when the client disconnects. An error before the first part is answered
    like any other. A later one cuts the connection, so that no client takes a part for the whole.

    Args:
        parts: The body, at least one part.
        media_type: Its type.
        headers: With Content-Length, if the length of the whole body is known.
        rest: The part to send. What comes before is generated all the same, since the file's end
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
        disconnected = client_disconnected(receive)
        start = {"status": self.status_code, "headers": self.raw_headers}
        async with aclosing(self.parts) as parts:
            if is_head(scope):  # nothing is generated
                await send({"type": "http.response.start", **start})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            async with aclosing(_after(self.skip, parts, disconnected)) as rest:
                part = await anext(rest)
                await send({"type": "http.response.start", **start})
                await send({"type": "http.response.body", "body": part, "more_body": True})
                async for part in rest:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                    await _pause(disconnected)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _pause(disconnected: Callable[[], bool]) -> None:
    """Let other requests have their turn between two parts.

    Raises:
        ClientDisconnect: nobody takes the next one.
    """
    if disconnected():
        raise ClientDisconnect
    await asyncio.sleep(0)  # while the server's buffers have room, sending itself never waits


async def _after(
    skip: int, parts: AsyncGenerator[bytes, None], disconnected: Callable[[], bool]
) -> AsyncGenerator[bytes, None]:
    """The parts without their first ``skip`` bytes.

    Raises:
        RangeNotSatisfiableError: there are no more bytes than that.
    """
    seen = 0
    async for part in parts:
        seen += len(part)
        if seen > skip:
            yield part[skip - seen :]
        else:
            await _pause(disconnected)
    if seen <= skip:
        raise RangeNotSatisfiableError.at(skip, seen)
