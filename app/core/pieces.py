"""Work that does not hold up the event loop: in pieces, between which others have their turn and
which end at the request's deadline or when its client leaves; or in a thread."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from app.batching.ticket import ClientDisconnectedError
from app.core.requests import RequestContext
from app.errors import DeadlineExceededError

PIECE = 2**14  # bytes that are written in one turn: at most 3 ms on one slow core, for latents

Result = TypeVar("Result")
_THREADS = ThreadPoolExecutor(2, "bytes")


async def in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """What ``function`` returns or raises: work of some milliseconds on bytes. Its errors leave
    nothing for the garbage collector, as those of anyio's threads do, whose frames hold the future
    that holds the error."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, function, *arguments)


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
