"""Work on the event loop in pieces: others have their turn between two, and it ends at its
request's deadline or when its client leaves."""

import asyncio
from collections.abc import Callable, Iterable

from app.batching.ticket import ClientDisconnectedError
from app.core.requests import RequestContext
from app.errors import DeadlineExceededError

PIECE = 2**14  # bytes that are written in one turn: at most 3 ms on one slow core, for latents


async def joined(
    parts: Iterable[bytes], context: RequestContext, clock: Callable[[], float]
) -> bytes:
    """The parts of a response, which are computed as they are asked for.

    Args:
        parts: Each small, or the only one.
        context: Whose response it is.
        clock: That of its deadline.

    Raises:
        DeadlineExceededError, ClientDisconnectedError: before it was whole.
    """
    done, size = [], 0
    for part in parts:
        done.append(part)
        size += len(part)
        if size >= PIECE:
            size = 0
            await asyncio.sleep(0)
            if context.disconnected and context.disconnected():
                raise ClientDisconnectedError("the client has gone away")
            if clock() >= context.deadline:
                raise DeadlineExceededError(
                    "the response was not written in the time that the request has"
                )
    return b"".join(done)
