"""Both clients, and another program at the address where the service should be."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

import pytest

from genserve import AsyncClient, Client

Call = Callable[..., Any]
OtherProgram = Callable[..., AbstractContextManager[tuple[str, list[Any]]]]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GENSERVE_"):
            monkeypatch.delenv(name)


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """``call(url, "generate", label=7)``: a method of ``Client`` or of ``AsyncClient``."""

    def sync(url: str, method: str, /, *args: Any, settings: Any = None, **given: Any) -> Any:
        with Client(url, **(settings or {})) as client:
            return getattr(client, method)(*args, **given)

    def awaited(url: str, method: str, /, *args: Any, settings: Any = None, **given: Any) -> Any:
        async def run() -> Any:
            async with AsyncClient(url, **(settings or {})) as client:
                return await getattr(client, method)(*args, **given)

        return asyncio.run(run())

    return sync if request.param == "sync" else awaited


@contextmanager
def serving(server: TCPServer) -> Iterator[str]:
    """The address of a server that answers in a thread until the block ends: its loop is told to
    stop between two connections. A thread in ``accept`` would not notice that its socket is closed,
    or would fail."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _other_program(
    status: int, body: bytes, media_type: str = "application/json", **headers: str
) -> Iterator[tuple[str, list[Any]]]:
    requests: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.headers)
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url, requests


@pytest.fixture
def other_program() -> OtherProgram:
    """``with other_program(status, body) as (url, requests)``: a server whose responses to GET are
    all the same, and the headers of each request."""
    return _other_program
