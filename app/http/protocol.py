"""HTTP as uvicorn speaks it, with a short way for plain requests, and limits on what is slow, large
or too many."""

import asyncio
import contextlib
import math
import os
import re
from typing import Any, Literal
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.core.clients import by_address
from app.errors import (
    STOPPED_RETRY_S,
    HeadersTooLargeError,
    MalformedRequestError,
    NotReadyError,
    OverloadedError,
    RequestTimeoutError,
    ServiceError,
    UriTooLongError,
)
from app.http.access import HEALTH
from app.http.error_response import header_lines
from app.http.fast_path import Lean
from app.http.keep_alive import Idle
from app.settings import Settings

MOST_URL = 65536  # bytes
MOST_HEADERS = 65536  # bytes, of names and values
MOST_FIELDS = 100  # header lines
_MOST_HEAD = MOST_URL + MOST_HEADERS + 2**14  # as it comes, before the parser has told its parts
_WHOLE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")  # a target with scheme and host
KEEP_ALIVE_S = 5.0  # as uvicorn: between an answer and the next request
_FULL_S = 0.05  # for so long no connection of no use is looked for, after there were hardly any
_LINGER_S = 2.0  # in which a client may read why it was refused, before the connection is cut


class _Lingering:
    """The transport of a request whose body is still coming, whose ``close`` waits a little.

    Closing a socket with unread data resets the connection, and the answer that says what was wrong
    with the body is lost on its way.
    """

    def __init__(self, transport: asyncio.Transport, linger: Any) -> None:
        self._transport = transport
        self.close = linger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _path_of(target: bytes) -> str:
    """What an application would be asked for; of a target that is none, what stands first."""
    try:
        path = httptools.parse_url(target).path or b""
    except httptools.HttpParserInvalidURLError:
        path = target.partition(b"?")[0]
    return unquote(path.decode("latin-1"))


def answer_last(connection: int, lean: Lean, waits: bool, path: str = "") -> None:
    """Answer a client before the process ends whose event loop stands still; for another thread.

    What is given to a transport would not leave any more, so it goes straight to the socket. What
    has come is taken from there, too: a socket closed with unread data resets the connection.

    Args:
        connection: File descriptor of a socket that does not block.
        lean: For the answer.
        waits: Whether a request is known of; otherwise one may have come since.
        path: Of that one, if it is known.
    """
    came = b""
    with contextlib.suppress(OSError):
        with contextlib.suppress(BlockingIOError):
            for _ in range(16):  # who sends more is not waited for
                came += os.read(connection, 65536)
        if waits or came:
            path = path or _path_of(came.partition(b" ")[2].partition(b" ")[0])
            error = NotReadyError("a model hangs", retry_after_s=STOPPED_RETRY_S)
            status, lines, body = lean.refusal(error, path)
            os.write(connection, STATUS_LINE[status] + lines + b"connection: close\r\n\r\n" + body)


def protocol_with(lean: Lean, settings: Settings) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, but for these things.

    A plain request (``app.http.fast_path``) that came in one piece, when all before it was
    answered, is not given to uvicorn's parser. What comes before its answer is held, and read after
    it.

    A request has to come in time: its headers within ``header_seconds`` of their first byte (or of
    the connection), its body within ``body_seconds`` of them. These are no limits on silence, which
    a byte now and then would keep off for ever. Addresses and headers have a largest size.

    Beyond ``max_connections`` one that is idle, or has not told yet what it wants, makes room for a
    new one; if there is none, the new one may ask for the service's health alone.

    A connection is cut when what was written has not left for ``stall_seconds``. uvicorn alone
    waits for ever, with all that the request holds; and closing would not end it, because a
    transport is closed when its buffer is empty.
    """
    told: dict[str, Any] = {"usual": None, "lines": b""}  # uvicorn's own headers, made ready
    seconds = {"head": settings.header_seconds, "body": settings.body_seconds}

    class Protocol(HttpToolsProtocol):
        _cut: asyncio.TimerHandle | None = None
        _late: asyncio.TimerHandle | None = None  # for what is to come
        _awaited: Literal["head", "body"] | None = None
        _inside = False  # the parser has seen the beginning of a request and not its end
        _headed = False  # and the end of its headers
        _came = 0  # bytes of a head that is not whole
        _fields = 0  # header lines of this request
        _bytes = 0  # in them
        _fault: ServiceError | None = None  # found by a callback of the parser
        _deaf = False  # nothing more is read
        _over = False  # there are too many connections without this one
        _answering = False  # a plain request
        _held = b""  # came meanwhile
        _closing = False  # after this answer

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._client = by_address(self.client[0] if self.client else None)
            self._await("head")
            if len(self.connections) > settings.max_connections:
                self._over = not _make_room(self.connections, self, self.loop.time())

        def data_received(self, data: bytes) -> None:
            if self._deaf:
                return
            if self._answering or self._held:
                self._held += data
                self.flow.pause_reading()
            elif self._is_free() and not self._over and (plain := lean.parse(data)):
                idle.remove(self)
                self._await(None)
                self._answering, self._closing = True, plain.closes
                lean.ask(plain, self._client, self.transport.is_closing, self._answer)
            elif self._is_free() and not self._over and (alive := lean.livez(data)):
                idle.remove(self)
                self._await(None)
                *told, self._closing = alive
                self._answer(200, *told)
            else:
                self._came += len(data)
                super().data_received(data)
                self._look()

        def _look(self) -> None:
            """What has to come next, now that the parser has taken all that came."""
            if self._deaf or self.transport.is_closing():
                return
            if self._inside and self._headed:
                if self._awaited != "body":
                    self._await("body")
                    lingering: Any = _Lingering(self.transport, self._end)
                    self.cycle.transport = lingering
            elif self._inside or (self._is_free() and idle.since(self) is None):
                # Empty lines before a request are no request, and keep no connection open.
                self._await("head")
                if self._came > _MOST_HEAD:
                    self._refuse(_headers_too_large(f"over {MOST_HEADERS} bytes"))
            else:
                self._await(None)

        def _await(self, what: Literal["head", "body"] | None) -> None:
            """The client has to send this in its time, which begins now."""
            if what == self._awaited:
                return
            self._awaited = what
            if self._late:
                self._late.cancel()
            self._late = what and self.loop.call_later(seconds[what], self._too_late, what)

        def _too_late(self, what: Literal["head", "body"]) -> None:
            self._awaited = None
            if self.flow.read_paused:  # it was ours not to read
                self._await(what)
            elif what == "head" and not self._came:
                self.transport.close()
            else:
                part = "headers are" if what == "head" else "body is"
                limit = f"{seconds[what]:g} s"
                self._refuse(RequestTimeoutError(f"the request's {part} not there after {limit}"))

        def _is_free(self) -> bool:
            """Whether nothing that came before is being read, answered or sent."""
            if self._inside or self.pipeline or self.flow.write_paused:
                return False
            return self.cycle is None or self.cycle.response_complete

        def waits_since(self) -> float | None:
            """When it began to be of no use: idle, or with half a head; None = it is in use."""
            if self._headed or self._answering or self._held or self.pipeline:
                return None
            if self.transport.is_closing():  # it makes its room already
                return None
            if self.cycle is not None and not self.cycle.response_complete:
                return None
            if (since := idle.since(self)) is not None:
                return since
            return self._late.when() - seconds["head"] if self._late else None

        def _refuse(self, error: ServiceError) -> None:
            """Answer what is no request, or none that is whole, and close."""
            self._deaf = True
            self._await(None)
            if self.transport.is_closing():
                return
            running = self.cycle is not None and not self.cycle.response_complete
            if running and (not self._headed or self.pipeline):
                self.cycle.keep_alive = False  # an earlier one: its answer comes first, and alone
                return
            if self._headed and running:
                begun = self.cycle.response_started
                self.cycle.disconnected = True  # what it still has to say is not sent
                self.cycle.message_event.set()
            else:
                begun = self._headed
            if not begun:
                self._write(*lean.refusal(error, self._path()), closing=True)
            self._linger()

        def _end(self) -> None:
            """Close after an answer."""
            if self._inside:
                self._linger()
            else:
                self.transport.close()

        def _linger(self) -> None:
            """Close, when the client has had time to read what was written."""
            self._deaf = True
            self._await(None)
            if self.transport.is_closing():
                return
            self.flow.resume_reading()
            self.transport.write_eof()
            self._late = self.loop.call_later(_LINGER_S, self.transport.close)

        def _write(self, status: int, lines: bytes, body: bytes, closing: bool) -> None:
            """Send an answer at once: one write, and where it fits one packet."""
            usual = self.server_state.default_headers  # a new list each second
            if usual is not told["usual"]:
                told["usual"], told["lines"] = usual, header_lines(usual)
            end = b"connection: close\r\n\r\n" if closing else b"\r\n"
            self.transport.write(b"".join((STATUS_LINE[status], told["lines"], lines, end, body)))

        def answer_last(self) -> None:
            """As the function of this name, unless an answer has begun to be sent."""
            if self.transport.is_closing() or self.transport.get_write_buffer_size():
                return
            running = self.cycle is not None and not self.cycle.response_complete
            if running and self.cycle.response_started:
                return
            end = self.transport.get_extra_info("socket").fileno()
            waits = self._answering or running
            answer_last(end, lean, waits, self.cycle.scope["path"] if running else "")

        def _answer(self, status: int, lines: bytes, body: bytes) -> None:
            """Send the answer to a plain request."""
            self._answering = False
            self.server_state.total_requests += 1
            if self.transport.is_closing():
                return
            self._write(status, lines, body, self._closing)
            if self._closing:
                if self._held:
                    self._linger()
                else:
                    self.transport.close()
                return
            idle.add(self, self.loop)
            if self._held:  # in a turn of its own: many of them would end in a deep recursion
                self.loop.call_soon(self._release)

        def _release(self) -> None:
            data, self._held = self._held, b""
            if not self.transport.is_closing():
                self.flow.resume_reading()
                self.data_received(data)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.timeout_keep_alive_task:
                self.timeout_keep_alive_task.cancel()
                self.timeout_keep_alive_task = None
                idle.add(self, self.loop)

        def _unset_keepalive_if_required(self) -> None:
            idle.remove(self)

        def shutdown(self) -> None:
            if self._answering:
                self._closing = True
            else:
                super().shutdown()

        def send_400_response(self, msg: str) -> None:
            """Answer what the parser does not take, and what our callbacks raise."""
            del msg
            fault, self._fault = self._fault, None
            self._refuse(fault or MalformedRequestError("this is not a request of HTTP/1.1"))

        def _stop(self, error: ServiceError) -> None:
            """End the parsing."""
            self._fault = error
            raise error

        def on_message_begin(self) -> None:
            self._inside, self._headed = True, False
            self._fields = self._bytes = 0
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            super().on_url(url)
            if len(self.url) > MOST_URL:
                self._stop(UriTooLongError(f"the address has over {MOST_URL} bytes"))

        def on_header(self, name: bytes, value: bytes) -> None:
            self._fields += 1
            self._bytes += len(name) + len(value)
            if self._fields > MOST_FIELDS:
                self._stop(_headers_too_large(f"over {MOST_FIELDS} lines"))
            if self._bytes > MOST_HEADERS:
                self._stop(_headers_too_large(f"over {MOST_HEADERS} bytes"))
            # Blanks around it are no part of it (RFC 9110, section 5.5); the parser leaves some.
            super().on_header(name, value.strip(b" \t"))

        def on_headers_complete(self) -> None:
            if self._over and self._path() not in HEALTH:
                count = settings.max_connections
                detail = f"all {count} connections of this process are in use"
                self._stop(OverloadedError(detail, retry_after_s=1))
            self._take_authority()
            super().on_headers_complete()
            self._headed, self._came = True, 0
            if self._over or self.parser.should_upgrade():
                # What follows a wish to speak another protocol is not read, so nothing may follow.
                self.cycle.keep_alive = False

        def _path(self) -> str:
            """Of the request that is coming in, as far as it is there."""
            return _path_of(self.url) if self._inside else ""

        def _take_authority(self) -> None:
            """Of a whole address as the target, the host in it is the one that counts (RFC 9112,
            section 3.2.2)."""
            places = [place for place, (name, _) in enumerate(self.headers) if name == b"host"]
            if len(places) == 1 and (whole := _WHOLE.match(self.url)):
                self.headers[places[0]] = (b"host", whole[1])

        def on_message_complete(self) -> None:
            self._inside, self._headed, self._came = False, False, 0
            self._await(None)
            super().on_message_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._cut = self.loop.call_later(settings.stall_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._forget()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            self._await(None)
            idle.remove(self)
            super().connection_lost(exc)
            if self.cycle:  # with ``_Lingering`` it would keep this until the collector comes
                self.cycle.transport = self.transport
            if len(self.connections) < settings.max_connections:
                unused.clear()

        def _forget(self) -> None:
            if self._cut:
                self._cut.cancel()

    idle: Idle[Protocol] = Idle(KEEP_ALIVE_S, Protocol.timeout_keep_alive_handler)
    unused: list[tuple[float, Any]] = []  # when last looked for, the one of no use for longest last
    look_at = -math.inf  # again

    def _make_room(connections: set[Any], new: Any, now: float) -> bool:
        """Close the connection that has been of no use for longest; False = all are in use.

        Not all are looked at for each new one: in a storm of them nothing else would be done.
        """
        nonlocal look_at
        while True:
            while unused:
                since, found = unused.pop()
                if found in connections and found.waits_since() == since:
                    found.transport.close()
                    return True
            if now < look_at:
                return False
            waiting = [
                (since, c)
                for c in connections
                if c is not new and (since := c.waits_since()) is not None
            ]
            unused.extend(sorted(waiting, key=lambda found: found[0], reverse=True))
            if 64 * len(unused) < len(connections):
                look_at = now + _FULL_S
            if not unused:
                return False

    return Protocol


def _headers_too_large(found: str) -> HeadersTooLargeError:
    return HeadersTooLargeError(
        f"the headers have {found}; at most {MOST_FIELDS} lines and {MOST_HEADERS} bytes are read"
    )
