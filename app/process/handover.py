"""Connections that the supervisor hands over: the event loop of a worker serves them."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import uvicorn

from app.process.channel import WorkerChannel


class HandedOver:
    """Serves the connections that the supervisor hands over.

    Created by a server that has started, in its event loop.

    Args:
        channel: To the supervisor.
        server: Whose protocol serves them, and reports each that ends.
        on_orphaned: Called when the supervisor has ended.
    """

    def __init__(
        self, channel: WorkerChannel, server: uvicorn.Server, on_orphaned: Callable[[], None]
    ) -> None:
        self._channel = channel
        self._tasks = server.server_state.tasks
        self._on_orphaned = on_orphaned
        self._loop = asyncio.get_running_loop()
        # As ``uvicorn.Server.startup`` makes it.
        self._protocol = partial(
            cast(Any, server.config.http_protocol_class),
            config=server.config,
            server_state=server.server_state,
            app_state=server.lifespan.state,
            _loop=self._loop,
        )
        self._loop.add_reader(channel.fileno(), self._receive)

    def _receive(self) -> None:
        try:
            for connection in self._channel.connections():
                task = asyncio.ensure_future(self._serve(connection))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except EOFError:
            self._loop.remove_reader(self._channel.fileno())
            self._on_orphaned()

    async def _serve(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # the client was gone already
            connection.close()
            self._channel.send_closed()
