"""HTTP/1.1 on one connection: uvicorn's protocol with a fast path, deadlines and limits.

``connection_state`` has the theory of operation. The class is long because it is one state machine,
which three parties call: the transport, uvicorn's parser, and who answers.
"""

import asyncio
import contextvars
import logging
import re
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from app.core.clients import by_address
from app.errors import (
    HeadersTooLargeError,
    MalformedRequestError,
    OverShareError,
    RequestTimeoutError,
    ServiceError,
    UnsupportedTransferCodingError,
    UriTooLongError,
    shown,
)
from app.http.access_log import AccessLog
from app.http.connection.begin_turns import BeginTurns
from app.http.connection.keep_alive import KeepAlive
from app.http.connection.limit import ConnectionLimit
from app.http.connection.state import NEXT, State
from app.http.connection.upgrades import head_without_upgrade
from app.http.error_response import header_lines, path_of
from app.http.fast_path import FastPath
from app.http.fast_request import Peer
from app.http.forwarded import TrustedProxies
from app.http.middleware import CLIENT_LEFT, WAITED, ResponseCutError
from app.settings import Settings

MAX_URL = 65536  # bytes
MAX_HEADERS = 65536  # bytes, of names and values
MAX_HEADER_LINES = 100
_MAX_HEAD = MAX_URL + MAX_HEADERS + 2**14  # bytes of which the parser has reported no part
_MAX_PIPELINED = 512  # requests that wait, since one packet can hold thousands
# Pieces of a body that the parser reports, and bytes for each more: each costs a call.
_MAX_PIECES, _PIECE_BYTES = 4096, 64
_MAX_UNREAD = 24  # requests of one connection that wait for the one before: some 64 KiB
_PROBE_S = 0.05  # after a client's FIN: a usual response is out by then, and shows as well
_MAX_PROBE_S = 1.0  # between two looks for a reset
_HALF_CLOSE_S = 0.25  # after a FIN, for the response to a client that cannot be probed
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STOP_LINGER_S = 0.5  # when the server stops, for a connection without a request
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")  # a target with scheme and host


def _is_news(record: logging.LogRecord) -> bool:
    """Filters uvicorn's log: its warnings are of malformed requests, which are counted and of which
    any client can send any number; a response that was cut has been logged with its reason."""
    if record.levelno == logging.WARNING:
        record.per_minute = 1
    return not (record.exc_info and isinstance(record.exc_info[1], ResponseCutError))


logging.getLogger("uvicorn.error").addFilter(_is_news)


class Unanswered(NamedTuple):
    """A connection that could still take one response."""

    descriptor: int  # of its socket
    request: bool  # whether one was received
    target: bytes  # of that request; empty = not known


@dataclass(frozen=True)
class Shared:
    """What all connections of a server share."""

    fast_path: FastPath
    limit: ConnectionLimit
    turns: BeginTurns
    keep_alive: "KeepAlive[ServiceProtocol]"
    deadlines: Mapping[State, float]  # seconds
    stall_seconds: float
    proxies: TrustedProxies
    on_closed: Callable[[], None]
    access_log: AccessLog | None


def service_protocol(
    fast_path: FastPath,
    settings: Settings,
    *,
    linger_seconds: float = 2.0,
    on_closed: Callable[[], None] = lambda: None,
    access_log: AccessLog | None = None,
) -> type[asyncio.Protocol]:
    """``ServiceProtocol`` for uvicorn's ``Config(http=...)``, with what its connections share.

    Args:
        fast_path: Answers fast requests.
        settings: Of the service.
        linger_seconds: In which a client may read why it was refused.
        on_closed: Called after each connection's end.
        access_log: Of responses that the application does not see; None = none is kept.
    """
    shared = Shared(
        fast_path,
        ConnectionLimit(
            settings.max_connections,
            max_share=settings.max_share,
            on_refused=fast_path.refused_connection,
        ),
        # In a context of its own: it is asked for within a request, too, whose context is its own.
        BeginTurns(
            lambda call: asyncio.get_running_loop().call_soon(call, context=contextvars.Context())
        ),
        KeepAlive(settings.keep_alive_seconds, ServiceProtocol.close),
        {
            State.NEW: settings.header_seconds,
            State.HEAD: settings.header_seconds,
            State.BODY: settings.body_seconds,
            State.LINGERING: linger_seconds,
        },
        settings.stall_seconds,
        TrustedProxies(settings.proxy_networks),
        on_closed,
        access_log,
    )
    # A class to uvicorn, which only ever calls it.
    return cast(type[asyncio.Protocol], partial(ServiceProtocol, shared))


class ServiceProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        shared: By all connections of the server.
        uvicorn: ``HttpToolsProtocol``'s own arguments.
    """

    def __init__(self, shared: Shared, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._shared = shared
        self._all = cast("set[ServiceProtocol]", self.connections)
        self._state = State.NEW
        self._deadline: asyncio.TimerHandle | None = None  # of the state
        self._stall: asyncio.TimerHandle | None = None
        self._refusal: ServiceError | None = None  # why it is not admitted
        self._received = 0  # bytes, since the last head or message was whole
        self._header_lines = 0
        self._header_bytes = 0
        self._pieces = 0  # of the body, and their bytes
        self._body_bytes = 0
        self._held = b""  # received while the fast path works
        self._close_after = False  # the fast path's response
        # Client, method, path and arrival, for the access log.
        self._fast: tuple[str | None, str, str, float] = (None, "-", "-", 0.0)
        self._cycles: deque[RequestResponseCycle] = deque()  # not answered yet, oldest first

    # The state

    def _enter(self, state: State) -> None:
        before, self._state = self._state, state
        assert state in NEXT[before], f"a connection cannot go from {before} to {state}"
        if self._deadline and state is not State.HEAD:  # a new connection's covers its first head
            self._deadline.cancel()
            self._deadline = None
        if state is State.IDLE:
            self._shared.keep_alive.add(self, self.loop)
        elif before is State.IDLE:
            self._shared.keep_alive.remove(self)

    def _start_deadline(self, seconds: float | None = None) -> None:
        if seconds is None:
            seconds = self._shared.deadlines[self._state]
        self._deadline = self.loop.call_later(seconds, self._on_deadline)

    def _on_deadline(self) -> None:
        self._deadline = None
        if self._state is State.NEW or self._state is State.LINGERING:
            self.close()
        elif self.flow.read_paused:  # the delay is ours
            self._start_deadline()
        else:
            part = "body is" if self._state is State.BODY else "headers are"
            limit = f"{self._shared.deadlines[self._state]:g} s"
            self._refuse(RequestTimeoutError(f"the request's {part} not there after {limit}"))

    def _responding(self) -> bool:
        """Whether the application still has a request to answer."""
        return self.cycle is not None and not self.cycle.response_complete

    def unused_since(self) -> float | None:
        """When the client began to keep this connection for nothing; None = it is in use."""
        if self.transport.is_closing():
            return None
        if self._state is State.IDLE:
            return self._shared.keep_alive.since(self)
        waits = self._state is State.NEW or self._state is State.LINGERING
        if self._deadline and (waits or (self._state is State.HEAD and not self._responding())):
            return self._deadline.when() - self._shared.deadlines[self._state]
        return None

    # The transport's callbacks

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        self._peer = Peer(address, by_address(address), self._shared.proxies.trusts(address))
        self._start_deadline()
        # A proxy's connections are those of many clients.
        self._owner = None if self._peer.trusted else self._peer.client
        self._refusal = self._shared.limit.admit(self._all, self, self.loop.time(), self._owner)

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state is State.IDLE or state is State.NEW:
            if not self._refusal and not self.flow.write_paused and self._take_fast(data):
                return
            self.url = b""
            self._enter(State.HEAD)
        elif state is State.FAST:
            self._held += data
            self.flow.pause_reading()
            return
        elif state is State.FINISHING or state is State.LINGERING:
            return
        self._received += len(data)
        self._feed(data)
        if self.transport.is_closing():
            return
        if self._state is State.HEAD:
            if self._deadline is None:
                self._start_deadline()
            if self._received > _MAX_HEAD:
                self._refuse(_headers_too_large(f"over {MAX_HEADERS} bytes"))
        elif self._state is State.BODY and self._received > _MAX_HEAD + 2 * self._body_bytes:
            self._refuse(MalformedRequestError("most of the body is chunk extensions"))
        elif self._state is State.BODY and self._deadline is None:
            self._start_deadline()
            self.cycle.transport = cast(asyncio.Transport, _Lingering(self.transport, self._end))

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays open for responses.

        A FIN comes from clients that have left and from those that only send no more. What tells
        them apart is that the former answer the next packet with a reset; see ``_probe``.
        """
        if self._state not in (State.FAST, State.ANSWERING, State.FINISHING):
            return False
        self.close_after_response()
        self.loop.call_later(_PROBE_S, self._probe)
        return True

    def _probe(self) -> None:
        """Send an interim response, which clients of HTTP/1.1 skip (RFC 9110, section 15.2).

        Those of HTTP/1.0 must get none. Most are proxies whose client has left (nginx by default):
        a moment later they are taken for gone.
        """
        if self._has_begun() or not self._waits_for_response():
            pass
        elif self._cycles and self._cycles[0].scope["http_version"] == "1.0":
            self.loop.call_later(_HALF_CLOSE_S - _PROBE_S, self._give_up)
        else:
            self.transport.write(_CONTINUE)
        self._look_for_reset(_PROBE_S)

    def _give_up(self) -> None:
        if self._waits_for_response() and not self._has_begun():
            self.close()

    def _has_begun(self) -> bool:
        """Whether the response to the oldest request has."""
        return bool(self._cycles) and self._cycles[0].response_started

    def _look_for_reset(self, seconds: float) -> None:
        """Nothing reads from a client that has ended its side, so nothing else would notice."""
        if not self._waits_for_response():
            return
        if _was_reset(self.transport.get_extra_info("socket").fileno()):
            self.transport.abort()
        else:
            longer = min(2 * seconds, _MAX_PROBE_S)
            self.loop.call_later(seconds, self._look_for_reset, longer)

    def _waits_for_response(self) -> bool:
        waits = self._state in (State.FAST, State.ANSWERING, State.FINISHING)
        return waits and not self.transport.is_closing()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(self._shared.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_stall()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._shared.access_log and self._state is State.FAST:
            self._log_fast(CLIENT_LEFT, b"", 0)
        self._enter(State.CLOSED)
        self._cancel_stall()
        for cycle in self._cycles:  # uvicorn tells the newest alone
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)
        if self.cycle:  # ``_Lingering`` would keep this connection until the garbage collector runs
            self.cycle.transport = self.transport
        self._shared.limit.closed(self._all, self, self._owner)
        self._refusal = None  # its traceback would keep this connection, too
        self._shared.on_closed()

    def _cancel_stall(self) -> None:
        if self._stall:
            self._stall.cancel()

    def _feed(self, data: bytes) -> None:
        """Have the parser read what was received."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            if self._offers_upgrade():
                self._decline_upgrade(data[stop.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")

    def _offers_upgrade(self) -> bool:
        """Whether the newest request offers another protocol; the parser stops after its head."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read a request as if it offered no other protocol; ``rest`` follows its head."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        head = head_without_upgrade(method, self.url, version, self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self._feed(head + rest)

    # The parser's callbacks. A ``ServiceError`` that one raises ends in ``send_400_response``.

    def on_message_begin(self) -> None:
        if self._state is not State.HEAD:
            self._enter(State.HEAD)
        self._header_lines = self._header_bytes = self._pieces = self._body_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL:
            raise UriTooLongError(f"the address has over {MAX_URL} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_lines += 1
        self._header_bytes += len(name) + len(value)
        if self._header_lines > MAX_HEADER_LINES:
            raise _headers_too_large(f"over {MAX_HEADER_LINES} lines")
        if self._header_bytes > MAX_HEADERS:
            raise _headers_too_large(f"over {MAX_HEADERS} bytes")
        if name.lower() == b"transfer-encoding":
            _check_transfer_coding(value)
        # Blanks around a value are no part of it (RFC 9110, section 5.5); the parser leaves some.
        super().on_header(name, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        if self._offers_upgrade():
            return
        if self._refusal:
            self._shared.limit.check(self._refusal, path_of(self.url))
        codings = [name for name, _ in self.headers].count(b"transfer-encoding")
        if codings > 1:
            raise MalformedRequestError("Transfer-Encoding is given more than once")
        if codings and self.parser.get_http_version() != "1.1":  # RFC 9112, section 6.1
            raise MalformedRequestError("Transfer-Encoding is given in a request of HTTP/1.0")
        if len(self.pipeline) >= _MAX_PIPELINED:  # its text is not sent: responses to those are due
            raise OverShareError(
                f"{_MAX_PIPELINED} requests of this connection wait; read the responses first"
            )
        self._take_authority()
        # RFC 9110, section 10.1.1: older clients know no interim response.
        self.expect_100_continue &= self.parser.get_http_version() != "1.0"
        try:
            super().on_headers_complete()
        except httptools.HttpParserInvalidURLError as error:
            raise MalformedRequestError(
                f"the target is {shown(self.url.decode('latin-1'))}; it must be a path, such as "
                "/generate?label=7"
            ) from error
        self._cycles.append(self.cycle)
        if len(self.pipeline) < _MAX_UNREAD:  # uvicorn has paused: a reset would not be noticed
            self.flow.resume_reading()
        self._enter(State.BODY)
        self._received = 0
        if self._refusal or self.parser.should_upgrade():
            # What follows a CONNECT is not HTTP.
            self.cycle.keep_alive = False
        if self._shared.fast_path.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._pieces += 1
        self._body_bytes += len(body)
        if self._pieces > _MAX_PIECES + self._body_bytes // _PIECE_BYTES:
            raise MalformedRequestError(
                f"the body comes in over {_MAX_PIECES} pieces of under {_PIECE_BYTES} bytes: send "
                "larger chunks"
            )
        super().on_body(body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Called by uvicorn when a request is the connection's oldest: have it wait its turn."""

        def begin() -> bool:
            if cycle.disconnected:
                return False
            cycle.scope["state"][WAITED] = time.perf_counter() - asked
            start(cycle, app)
            return True

        start, asked = super()._start_asgi_task, time.perf_counter()
        self._shared.turns.ask(self._client_of(cycle), begin)

    def _client_of(self, cycle: RequestResponseCycle) -> str | None:
        """Whose request it is, by address."""
        if not self._peer.trusted:
            return self._peer.client
        headers = cycle.scope["headers"]
        return by_address(self._shared.proxies.client_of(self._peer.address, headers))

    def on_message_complete(self) -> None:
        if self._offers_upgrade():
            return
        super().on_message_complete()
        self._enter(State.ANSWERING if self._responding() else State.IDLE)
        self._received = 0

    def _take_authority(self) -> None:
        """Where the target is a whole address, its host is the one that counts (RFC 9112, section
        3.2.2), and no path is the path / (RFC 9110, section 4.2.3)."""
        if not (match := _ABSOLUTE.match(self.url)):
            return
        places = [place for place, (name, _) in enumerate(self.headers) if name == b"host"]
        if len(places) == 1:
            self.headers[places[0]] = (b"host", match[1])
        if not self.url.startswith(b"/", match.end()):
            self.url = match[0] + b"/" + self.url[match.end() :]

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn in its handler of an error of the parser, or of its callbacks."""
        del msg
        error = sys.exc_info()[1]
        cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
        if isinstance(cause, AssertionError):
            raise cause  # a bug of ours
        fault = f"this is not a request of HTTP/1.1: {error}"
        spaced = "Expected HTTP/" in str(error)  # what follows a space in the target is no version
        if isinstance(error, httptools.HttpParserInvalidURLError) or spaced:
            fault += "; percent-encode all but plain ASCII, such as %C3%A9 for é"
        malformed = MalformedRequestError(fault)
        self._refuse(cause if isinstance(cause, ServiceError) else malformed)

    # Responses

    def _take_fast(self, data: bytes) -> bool:
        """Have the fast path answer, if it can."""
        fast_path = self._shared.fast_path
        request = fast_path.parser.parse(data, self._peer)
        if request is None or not fast_path.takes(request):
            return False
        self._enter(State.FAST)
        if self._shared.access_log:
            self._fast = request.client, request.method, request.path, self.loop.time()
        self._close_after = request.closes
        fast_path.respond(request, self.transport.is_closing, self._respond_fast)
        return True

    def _respond_fast(self, status: int, lines: bytes, body: bytes) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        closing = self._close_after = self._close_after or self._shared.fast_path.draining
        self._write(status, lines, body, closing)
        if self._shared.access_log:
            self._log_fast(status, lines, len(body))
        if closing:
            if self._held:
                self._linger()
            else:
                self.close()
        elif self._held:  # in a later turn of the loop: many would end in a deep recursion
            self.loop.call_soon(self._release)
        else:
            self._enter(State.IDLE)

    def _release(self) -> None:
        """Receive what was held."""
        data, self._held = self._held, b""
        if self.transport.is_closing():
            return
        if self._close_after:  # ``shutdown`` came in between
            self.close()
            return
        self._enter(State.IDLE)
        self.flow.resume_reading()
        self.data_received(data)

    def on_response_complete(self) -> None:
        self._cycles.popleft()
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_if_stuck()
        if self.timeout_keep_alive_task:  # uvicorn's own, for which there is ``KeepAlive``
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
            if self._state is State.ANSWERING:
                self._enter(State.IDLE)
            elif self._state is State.FINISHING:
                self._linger()

    def _log_fast(self, status: int, lines: bytes, size: int) -> None:
        """Add the response to a fast request to the access log."""
        client, method, path, since = self._fast
        assert self._shared.access_log
        self._shared.access_log.fast(
            client, method, path, status, lines, size, self.loop.time() - since
        )

    def _write(self, status: int, lines: bytes, body: bytes, closing: bool) -> None:
        """Send a response in one write, and where it fits in one packet."""
        usual = header_lines(self.server_state.default_headers)
        end = b"connection: close\r\n\r\n" if closing else b"\r\n"
        self.transport.write(b"".join((STATUS_LINE[status], usual, lines, end, body)))

    # The end

    def _refuse(self, error: ServiceError) -> None:
        """Answer what is no request, or none that is whole, and close."""
        if self.transport.is_closing():
            return
        has_cycle = self._state is State.BODY
        responding = self._responding()
        if responding and (self.pipeline or not has_cycle):
            # Responses to earlier requests come first, and are all that is sent.
            if has_cycle:
                self.pipeline.popleft()  # the newest; its body will never be whole
                self._cycles.pop()
            else:
                self.cycle.keep_alive = False
            self._enter(State.FINISHING)
            return
        if has_cycle and responding:
            self.cycle.disconnected = True  # what the application still sends is dropped
            self.cycle.message_event.set()
        if not (has_cycle and self.cycle.response_started):
            status, lines, body = self._shared.fast_path.unrouted_error(error, self.url)
            self._write(status, lines, body, closing=True)
            if self._shared.access_log:
                path = path_of(self.url) or "-"
                self._fast = self._peer.client, "-", path, self.loop.time()
                self._log_fast(status, lines, len(body))
        self._linger()

    def _end(self) -> None:
        """Close after the application's response."""
        if self._state in (State.HEAD, State.BODY, State.FINISHING):
            self._linger()
        elif self._state is not State.LINGERING:
            self.close()

    def _linger(self, seconds: float | None = None) -> None:
        """Close, once the client has had time to read what was written; None = the usual time."""
        if self.transport.is_closing():
            return
        self._enter(State.LINGERING)
        self.flow.resume_reading()
        self._start_deadline(seconds)
        try:
            self.transport.write_eof()
        except OSError:  # the client has reset the connection
            self.transport.abort()

    def close(self) -> None:
        """Close the connection now, or when the client has taken what was written."""
        self.transport.close()
        self._abort_if_stuck()

    def _abort_if_stuck(self) -> None:
        """A transport that is closing waits for ever for its buffer to empty."""
        if self.transport.get_write_buffer_size():
            self.loop.call_later(self._shared.stall_seconds, self.transport.abort)

    def shutdown(self) -> None:
        """Called by uvicorn when the server has drained: close after the response."""
        if self._responding() or self._state is State.FAST:
            self.close_after_response()
        elif self._state is not State.LINGERING:
            self._linger(_STOP_LINGER_S)

    def close_after_response(self) -> None:
        """Close the connection after the response to the newest request, if there is any."""
        if self._state is State.FAST:
            self._close_after = True
        elif self._responding():
            self.cycle.keep_alive = False

    def unanswered(self) -> Unanswered | None:
        """For the last response of a process that hangs; safe in another thread.

        None = the connection is closing, or a response is on its way.
        """
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            return None
        responding = self._responding()
        if responding and self.cycle.response_started:
            return None
        descriptor = self.transport.get_extra_info("socket").fileno()
        target = self.cycle.scope["raw_path"] if responding else b""
        return Unanswered(descriptor, responding or self._state is State.FAST, target)


class _Lingering:
    """The transport of a request whose body is not whole yet: ``close`` may have to linger.

    Args:
        transport: The connection's.
        close: Called instead of its own ``close``.
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self.close = close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _was_reset(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)  # errors are always reported
    return bool(poll.poll(0))


def _headers_too_large(size: str) -> HeadersTooLargeError:
    return HeadersTooLargeError(
        f"the headers have {size}; at most {MAX_HEADER_LINES} lines and {MAX_HEADERS} bytes are "
        "read"
    )


def _check_transfer_coding(value: bytes) -> None:
    """Refuse codings other than chunked, which the parser would pass on as they came."""
    if value.strip(b" \t").lower() != b"chunked":
        raise UnsupportedTransferCodingError(
            f"Transfer-Encoding is {shown(value.decode('latin-1'))}; send the body unencoded, with "
            "Content-Length or chunked"
        )
