"""Work of some milliseconds on bytes, in threads beside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")
_THREADS = ThreadPoolExecutor(2, "bytes")


async def in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """What ``function`` returns or raises. Its errors leave nothing for the garbage collector, as
    those of anyio's threads do, whose frames hold the future that holds the error."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, function, *arguments)
