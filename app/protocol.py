"""HTTP as uvicorn speaks it, with a short way for plain requests and a limit on stalled readers."""

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.lean import Lean
from app.middleware import Headers


def protocol_with(lean: Lean, stall_seconds: float) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, but for two things.

    A plain request (``app.lean``) that came in one piece, when all before it was answered, is not
    given to uvicorn's parser. What comes before its answer is held, and read after it.

    A connection is cut when what was written has not left for ``stall_seconds``. uvicorn alone
    waits for ever, with all that the request holds; and closing would not end it, because a
    transport is closed when its buffer is empty.
    """

    class Protocol(HttpToolsProtocol):
        _cut: asyncio.TimerHandle | None = None
        _inside = False  # the parser has seen the beginning of a request and not its end
        _answering = False  # a plain request
        _held = b""  # came meanwhile
        _closing = False  # after this answer

        def data_received(self, data: bytes) -> None:
            if self._answering or self._held:
                self._held += data
                self.flow.pause_reading()
            elif self._is_free() and (plain := lean.parse(data)):
                self._unset_keepalive_if_required()
                self._answering = True
                lean.ask(plain, self.transport.is_closing, self._answer)
            else:
                super().data_received(data)

        def _is_free(self) -> bool:
            """Whether nothing that came before is being read, answered or sent."""
            if self._inside or self.pipeline or self.flow.write_paused:
                return False
            return self.cycle is None or self.cycle.response_complete

        def _answer(self, status: int, headers: Headers, body: bytes) -> None:
            """Send the answer to a plain request."""
            self._answering = False
            self.server_state.total_requests += 1
            if self.transport.is_closing():
                return
            lines = [STATUS_LINE[status]]
            for name, value in (*self.server_state.default_headers, *headers):
                lines += (name, b": ", value, b"\r\n")
            if self._closing:
                lines.append(b"connection: close\r\n")
            lines += (b"\r\n", body)
            self.transport.write(b"".join(lines))
            if self._closing:
                self.transport.close()
                return
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            if self._held:  # in a turn of its own: many of them would end in a deep recursion
                self.loop.call_soon(self._release)

        def _release(self) -> None:
            data, self._held = self._held, b""
            if not self.transport.is_closing():
                self.flow.resume_reading()
                self.data_received(data)

        def shutdown(self) -> None:
            if self._answering:
                self._closing = True
            else:
                super().shutdown()

        def on_message_begin(self) -> None:
            self._inside = True
            super().on_message_begin()

        def on_message_complete(self) -> None:
            self._inside = False
            super().on_message_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._cut = self.loop.call_later(stall_seconds, self.transport.abort)

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
