"""Answers requests for /generate and /livez without ASGI.

A request's way through uvicorn's parser and task, the middleware and Starlette's messages costs as
much as its share of a forward pass. So the protocol first offers what it receives to
``FastRequestParser``; images are asked for with a callback instead of a task. Both routes read
requests, choose, compute and write responses with the same functions.

Liveness is here because it has to be reported in time however many others ask. The full route takes
two turns of the event loop, and in an overload each of them is long.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple

from starlette.datastructures import State

from app.batching.admission import OverloadError
from app.batching.ticket import ClientDisconnectedError
from app.core.refusals import refusal_reason
from app.core.requests import Generated, GenerateRequest
from app.core.service import Service
from app.core.telemetry.metrics import Metrics
from app.core.telemetry.tracing import TRACE_HEADER, RequestTrace, Tracing
from app.engines.rows import OperationKey
from app.errors import ServiceError
from app.http.error_response import (
    as_service_error,
    common_headers,
    common_lines,
    header_lines,
    path_of,
    problem,
)
from app.http.fast_request import LIVEZ, PATH, FastRequest, FastRequestParser, Respond
from app.http.middleware import CLIENT_LEFT, new_request_id
from app.http.refusal_cache import RefusalCache
from app.rendering.caching import etag_matches
from app.rendering.image_query import ImageQuery, render
from app.rendering.responses import (
    EncodedResponse,
    headers_only,
    images_response,
    is_quick,
    is_quick_png,
    one_png,
)

_ALIVE = b'{"status":"alive"}'
_ALIVE_LINES = b"content-length: %d\r\ncontent-type: application/json\r\n" % len(_ALIVE)

_Outcome = Generated | Exception  # named once: inside a function it would be built at each call


class _Arrival(NamedTuple):
    """A fast request with what its response needs."""

    at: float  # time.perf_counter()
    request: FastRequest
    query: ImageQuery
    disconnected: Callable[[], bool]
    respond: Respond
    trace: RequestTrace | None = None


class FastPath:
    """Answers fast requests from the service.

    In an overload requests arrive by the thousand in one turn of the event loop, and the model
    would stand still until all are refused. So they are handled in slices, in turn with the loop's
    other work.

    Args:
        state: Its ``service`` is there once the application has started.
        metrics: Counts the requests.
        parser: Says which requests are fast ones.
        slice_s: Seconds in which requests are handled before the event loop does anything else.
        max_slice_s: The same, where they have waited for as long: refusing at once comes first.
        refusals: What the queue has refused just now.
        root: Path under which clients find the service, where no proxy names one.
        tracing: Of spans; None = none. What ``refusals`` repeats has none.
    """

    def __init__(
        self,
        state: State,
        metrics: Metrics,
        parser: FastRequestParser,
        slice_s: float = 0.005,
        max_slice_s: float = 0.02,
        refusals: RefusalCache | None = None,
        root: str = "",
        tracing: Tracing | None = None,
    ) -> None:
        self._state = state
        self._metrics = metrics
        self.parser = parser
        self.draining = False  # the server stops: each response is its connection's last
        self._slice_s, self._max_slice_s = slice_s, max_slice_s
        self._root = root
        self._tracing = tracing
        self._refusals = refusals or RefusalCache(metrics)
        self._arrivals: deque[_Arrival] = deque()
        self._tasks: set[asyncio.Task[None]] = set()  # that encode
        self._slice_ends: float | None = None  # of requests handled on arrival, in this turn

    def takes(self, request: FastRequest) -> bool:
        """Whether ``respond`` may be called. A process that is not alive says why on the full
        route."""
        return request.query is not None or not self._state.service.health.restart_reason()

    def respond(
        self, request: FastRequest, disconnected: Callable[[], bool], respond: Respond
    ) -> None:
        """Have a request answered, on arrival while there is time left in this turn.

        Args:
            request: As the parser returns it.
            disconnected: Whether the client has gone.
            respond: Called once, perhaps at once; never for a client that has gone.
        """
        at = time.perf_counter()
        if request.query is None:
            self._livez(request, at, respond)
            return
        arrival = _Arrival(at, request, request.query, disconnected, respond)
        if not self._arrivals and self._has_time(at):
            self._handle(arrival)
            return
        if not self._arrivals:
            asyncio.get_running_loop().call_soon(self._handle_slice)
        self._arrivals.append(arrival)

    def _livez(self, request: FastRequest, at: float, respond: Respond) -> None:
        """Report that the process is alive."""
        self._metrics.request("GET", LIVEZ, 200, time.perf_counter() - at)
        request_id = request.request_id or new_request_id()
        respond(200, _ALIVE_LINES + common_lines(request_id.encode()), _ALIVE)

    def refused_connection(self, reason: str) -> None:
        """Count a connection that was not admitted."""
        self._metrics.refused_connection(reason)

    def unrouted_error(self, error: ServiceError, target: bytes) -> tuple[int, bytes, bytes]:
        """Status, header lines and body for a request that reaches no route; counted.

        Args:
            error: Why not.
            target: Of the request, as far as it was received.
        """
        request_id = new_request_id()
        self._metrics.request("other", "other", error.status, 0.0)  # it has no whole head
        status, headers, body = problem(error, request_id, path_of(target), self._root)
        return status, header_lines([*headers, *common_headers(request_id)]), body

    def _has_time(self, now: float) -> bool:
        """Whether this turn of the event loop has time left for requests."""
        if self._slice_ends is None:
            self._slice_ends = now + self._slice_s
            asyncio.get_running_loop().call_soon(self._end_slice)
        return now < self._slice_ends

    def _end_slice(self) -> None:
        self._slice_ends = None

    def _handle_slice(self) -> None:
        """Handle what has arrived, for a while."""
        now = time.perf_counter()
        waited_s = now - self._arrivals[0].at
        ends = now + min(self._max_slice_s, max(self._slice_s, waited_s))
        try:
            while self._arrivals:
                self._handle(self._arrivals.popleft())
                if time.perf_counter() > ends:
                    break
        finally:  # whatever went wrong with one, the others are still to be handled
            if self._arrivals:
                asyncio.get_running_loop().call_soon(self._handle_slice)

    def _handle(self, arrival: _Arrival) -> None:
        _, fast, query, disconnected, respond, _ = arrival
        service: Service = self._state.service
        changes = service.batcher.changes
        if not service.stopping and self._refusals.respond(fast, changes, respond, arrival.at):
            return
        request_id = fast.request_id or new_request_id()
        if self._tracing:
            trace = self._tracing.begin(fast.traceparent, fast.tracestate)
            arrival = arrival._replace(trace=trace)
        fail = partial(self._fail, arrival, request_id)
        try:
            context = service.begin_request(
                *(fast.timeout_ms, disconnected, fast.client, arrival.trace),
                waited=time.perf_counter() - arrival.at,
            )
        except Exception as error:
            fail(error)
            return
        try:
            request = query.request(service, context)
            lines = self._not_modified(service, fast, query, request)
        except Exception as error:
            service.end_request()
            fail(error)
            return
        if lines is not None:
            service.end_request()
            self._succeed(arrival, request_id, 304, lines, b"")
            return

        service.start_generate(request, partial(self._finish, arrival, request_id, request))

    def _not_modified(
        self, service: Service, fast: FastRequest, query: ImageQuery, request: GenerateRequest
    ) -> bytes | None:
        """The header lines of a 304; None = the client does not have these images."""
        if fast.if_none_match is None or fast.method != "GET" or not query.seeded:
            return None
        metadata = query.metadata(service, request, request.samples(), fast.root)
        if metadata.etag is None or not etag_matches(fast.if_none_match, metadata.etag):
            return None
        return header_lines(headers_only(query.rendering.media, metadata, 304).raw_headers)

    def _remember(self, fast: FastRequest, request: GenerateRequest, error: ServiceError) -> None:
        """Refuse the next requests of this kind, if the queue was full."""
        if isinstance(error.__cause__, OverloadError):
            key: OperationKey = (request.model.name, "generate")
            reason, changes = refusal_reason(error.__cause__), self._state.service.batcher.changes
            self._refusals.add(fast, changes, error, key, reason)

    def _finish(
        self, arrival: _Arrival, request_id: str, request: GenerateRequest, outcome: _Outcome
    ) -> None:
        """The images are there, or the reason why not."""
        service, fast, query = self._state.service, arrival.request, arrival.query
        if isinstance(outcome, Exception):
            service.end_request()
            if isinstance(outcome, ServiceError):
                self._remember(fast, request, outcome)
            self._fail(arrival, request_id, outcome)
            return
        images, samples, timing = outcome
        try:
            if is_quick_png(query.rendering, images):
                about = query.rendering, query.seeded, query.pinned, service, fast.root
                lines, body = one_png(request, outcome, *about)
            else:
                metadata = query.metadata(service, request, samples, fast.root)
                if not is_quick(query.rendering, images, metadata):
                    rendered = render(
                        *(service, query.rendering, images, metadata, timing, request.context)
                    )
                    self._start(self._encode(arrival, request_id, rendered))
                    return
                response = images_response(query.rendering, images, metadata, timing)
                lines, body = header_lines(response.raw_headers), bytes(response.body)
        except Exception as error:
            service.end_request()
            self._fail(arrival, request_id, error)
            return
        service.end_request()
        self._succeed(arrival, request_id, 200, lines, body)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _encode(
        self, arrival: _Arrival, request_id: str, rendered: Awaitable[EncodedResponse]
    ) -> None:
        """Respond when another process has encoded the images."""
        try:
            response = await rendered
        except Exception as error:
            self._fail(arrival, request_id, error)
        else:
            lines = header_lines(response.raw_headers)
            self._succeed(arrival, request_id, 200, lines, bytes(response.body))
        finally:
            self._state.service.end_request()

    def _succeed(
        self, arrival: _Arrival, request_id: str, status: int, lines: bytes, body: bytes
    ) -> None:
        """Respond with images, or that the client has them."""
        method = arrival.request.method
        self._metrics.request(method, PATH, status, time.perf_counter() - arrival.at)
        lines += common_lines(request_id.encode())
        arrival.respond(status, _ended(arrival.trace, method, status, request_id, lines), body)

    def _fail(self, arrival: _Arrival, request_id: str, error: Exception) -> None:
        """Respond with an error, if anyone is there."""
        method, seconds = arrival.request.method, time.perf_counter() - arrival.at
        if isinstance(error, ClientDisconnectedError):
            self._metrics.request(method, PATH, CLIENT_LEFT, seconds)
            _ended(arrival.trace, method, CLIENT_LEFT, request_id, b"")
            return
        service_error = as_service_error(error, request_id)
        status, headers, body = problem(service_error, request_id, PATH, arrival.request.root)
        self._metrics.request(method, PATH, status, seconds)
        lines = header_lines(headers) + common_lines(request_id.encode())
        arrival.respond(status, _ended(arrival.trace, method, status, request_id, lines), body)


def _ended(
    trace: RequestTrace | None, method: str, status: int, request_id: str, lines: bytes
) -> bytes:
    """Header lines with the trace's, whose span ends here."""
    if trace is None:
        return lines
    trace.end(method, PATH, status, request_id)
    return lines + f"{TRACE_HEADER}: {trace.id}\r\n".encode()
