"""Connections that the supervisor hands over: the event loop of a worker serves them."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import uvicorn

from app.process.workers.channel import WorkerChannel


def protocol_factory(server: uvicorn.Server) -> Callable[[], asyncio.Protocol]:
    """What creates the protocol of a connection, as ``uvicorn.Server.startup`` makes it; called in
    the server's event loop."""
    return partial(
        cast(Any, server.config.http_protocol_class),
        config=server.config,
        server_state=server.server_state,
        app_state=server.lifespan.state,
        _loop=asyncio.get_running_loop(),
    )


class HandedOver:
    """Serves the connections that the supervisor hands over.

    Created by a server that has started, in its event loop.

    Args:
        channel: To the supervisor.
        server: Whose protocol serves them, and reports each that ends.
        on_end: Called when no more connections come: the supervisor has ended, or said so.

    Attributes:
        ended: No more connections come.
    """

    def __init__(
        self, channel: WorkerChannel, server: uvicorn.Server, on_end: Callable[[], None]
    ) -> None:
        self._channel = channel
        self._tasks = server.server_state.tasks
        self._on_end = on_end
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol_factory(server)
        self._loop.add_reader(channel.fileno(), self._receive)

    def _receive(self) -> None:
        try:
            for connection in self._channel.connections():
                task = asyncio.ensure_future(self._serve(connection))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except EOFError:
            self._loop.remove_reader(self._channel.fileno())
            self.ended.set()
            self._on_end()

    async def _serve(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # the client was gone already
            connection.close()
            self._channel.send_closed()
