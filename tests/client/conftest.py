"""A service of the tiny store on a socket, and both clients of it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from genserve import AsyncClient, Client

from tests.conftest import ROOT, Server, running_server

CLIENT = ROOT / "client"


@pytest.fixture(scope="session")
def served(tiny_store: Path) -> Iterator[Server]:
    """Read it: other tests use it too."""
    with running_server("--models-dir", str(tiny_store), "--workers", "1") as server:
        yield server


Asks = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def asks(request: pytest.FixtureRequest) -> Asks:
    """``asks(url, "generate", label=7)``: the method of a client, now or awaited."""

    def now(url: str, method: str, /, *args: Any, settings: Any = None, **given: Any) -> Any:
        with Client(url, **(settings or {})) as client:
            return getattr(client, method)(*args, **given)

    def awaited(url: str, method: str, /, *args: Any, settings: Any = None, **given: Any) -> Any:
        async def ask() -> Any:
            async with AsyncClient(url, **(settings or {})) as client:
                return await getattr(client, method)(*args, **given)

        return asyncio.run(ask())

    return now if request.param == "sync" else awaited
