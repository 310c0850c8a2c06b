"""HTTP as uvicorn speaks it, with a limit on how long a client may leave its answer unread."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def stalling_after(seconds: float) -> type[HttpToolsProtocol]:
    """A protocol that cuts a connection when what was written has not left for so long.

    uvicorn alone waits for ever, with all that the request holds. Closing would not end it either:
    a transport is closed when its buffer is empty.
    """

    class Protocol(HttpToolsProtocol):
        _cut: asyncio.TimerHandle | None = None

        def pause_writing(self) -> None:
            super().pause_writing()
            self._cut = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._forget()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _forget(self) -> None:
            if self._cut:
                self._cut.cancel()

    return Protocol
