"""Answers the plain form of /generate and /livez without ASGI.

A request's way through uvicorn's parser and task, Starlette and FastAPI costs more than its share
of
a forward pass: in process 579 µs, and 279 µs on the fast path. So the protocol first offers what it
receives to ``FastRequestParser``; images of a fast request are asked for with a callback instead of
a task. Both routes end in the same service and give the same response.

Liveness is here because it has to be reported in time however many others ask. The full route takes
two turns of the event loop, and in an overload each of them is long.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from starlette.datastructures import State

from app.batching.admission import OverloadError
from app.batching.ticket import ClientDisconnectedError
from app.core.refusals import refusal_reason
from app.core.requests import Generated, GenerateRequest
from app.core.service import Service
from app.core.telemetry.metrics import Metrics
from app.core.telemetry.tracing import TRACE_HEADER, RequestTrace, Tracing
from app.engines.rows import OperationKey, Sample
from app.errors import ServiceError
from app.formats.media_types import PNG
from app.http.error_response import (
    as_service_error,
    common_headers,
    common_lines,
    header_lines,
    path_of,
    problem,
)
from app.http.fast_request import PATH, FastLivez, FastRequest, FastRequestParser, Respond
from app.http.middleware import CLIENT_LEFT, new_request_id
from app.http.refusal_cache import RefusalCache
from app.rendering.lineage import ResponseMetadata, generate_metadata
from app.rendering.options import Rendering
from app.rendering.responses import headers_only, images_response, one_png

_ALIVE = b'{"status":"alive"}'
_ALIVE_LINES = b"content-length: %d\r\ncontent-type: application/json\r\n" % len(_ALIVE)

_Outcome = Generated | Exception  # named once: inside a function it would be built at each call


class _Arrival(NamedTuple):
    """A fast request with what its response needs."""

    at: float  # time.perf_counter()
    request: FastRequest
    client: str | None
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
        root: Path under which clients find the service.
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
        self._refusals = refusals or RefusalCache(metrics, root=root)
        self._arrivals: deque[_Arrival] = deque()
        self._slice_ends: float | None = None  # of requests handled on arrival, in this turn

    def generate(
        self,
        request: FastRequest,
        client: str | None,
        disconnected: Callable[[], bool],
        respond: Respond,
    ) -> None:
        """Have a request answered, on arrival while there is time left in this turn.

        Args:
            request: As the parser returns it.
            client: Who sent it, as ``app.core.clients`` names clients.
            disconnected: Whether the client has gone.
            respond: Called once, perhaps at once; never for a client that has gone.
        """
        arrival = _Arrival(time.perf_counter(), request, client, disconnected, respond)
        if not self._arrivals and self._has_time(arrival.at):
            self._handle(arrival)
            return
        if not self._arrivals:
            asyncio.get_running_loop().call_soon(self._handle_slice)
        self._arrivals.append(arrival)

    def livez(self, request: FastLivez) -> tuple[int, bytes, bytes] | None:
        """Status, header lines and body for a process that is alive; None = the full route says why
        it is not."""
        at = time.perf_counter()
        if self._state.service.health.restart_reason():
            return None
        self._metrics.request("GET", "/livez", 200, time.perf_counter() - at)
        request_id = request.request_id or new_request_id()
        return 200, _ALIVE_LINES + common_lines(request_id.encode()), _ALIVE

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
        _, fast, client, disconnected, respond, _ = arrival
        service: Service = self._state.service
        changes = service.batcher.changes
        if not service.stopping and self._refusals.respond(
            *(fast, client, changes, respond, arrival.at)
        ):
            return
        request_id = fast.request_id or new_request_id()
        trace = None
        if self._tracing:
            trace = self._tracing.begin(fast.traceparent)
            arrival = arrival._replace(trace=trace)
        fail = partial(self._fail, arrival, request_id)
        try:
            context = service.begin_request(fast.timeout_ms, disconnected, client, trace)
        except Exception as error:
            fail(error)
            return
        try:
            request = service.generate_request(fast.model, fast.label, fast.n, fast.seed, context)
        except Exception as error:
            service.end_request()
            fail(error)
            return

        if fast.if_none_match and (lines := self._not_modified(service, fast, request)):
            service.end_request()
            self._metrics.request(fast.method, PATH, 304, time.perf_counter() - arrival.at)
            lines += common_lines(request_id.encode())
            respond(304, _ended(trace, fast.method, 304, request_id, lines), b"")
            return

        def finish(outcome: _Outcome) -> None:
            service.end_request()
            if isinstance(outcome, Exception):
                if isinstance(outcome, ServiceError):
                    self._remember(fast, client, request, outcome)
                fail(outcome)
                return
            try:
                lines, body = _render(service, fast, request, outcome, self._root)
            except Exception as error:
                fail(error)
                return
            self._metrics.request(fast.method, PATH, 200, time.perf_counter() - arrival.at)
            lines += common_lines(request_id.encode())
            respond(200, _ended(trace, fast.method, 200, request_id, lines), body)

        service.start_generate(request, finish)

    def _not_modified(
        self, service: Service, fast: FastRequest, request: GenerateRequest
    ) -> bytes | None:
        """The header lines of a 304; None = the client does not have these images."""
        if fast.method != "GET" or fast.seed is None:
            return None
        metadata = _metadata(service, fast, request, request.samples(), self._root)
        if metadata.etag is None or metadata.etag != fast.if_none_match:
            return None
        return header_lines(headers_only(fast.media, metadata, 304).raw_headers)

    def _remember(
        self, fast: FastRequest, client: str | None, request: GenerateRequest, error: ServiceError
    ) -> None:
        """Refuse the next requests of this kind, if the queue was full."""
        if isinstance(error.__cause__, OverloadError):
            key: OperationKey = (request.model.name, "generate")
            reason, changes = refusal_reason(error.__cause__), self._state.service.batcher.changes
            self._refusals.add(fast, client, changes, error, key, reason)

    def _fail(self, arrival: _Arrival, request_id: str, error: Exception) -> None:
        """Respond with an error, if anyone is there."""
        method, seconds = arrival.request.method, time.perf_counter() - arrival.at
        if isinstance(error, ClientDisconnectedError):
            self._metrics.request(method, PATH, CLIENT_LEFT, seconds)
            _ended(arrival.trace, method, CLIENT_LEFT, request_id, b"")
            return
        service_error = as_service_error(error, request_id)
        status, headers, body = problem(service_error, request_id, PATH, self._root)
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


def _render(
    service: Service,
    fast: FastRequest,
    request: GenerateRequest,
    generated: Generated,
    root: str,
) -> tuple[bytes, bytes]:
    """Header lines and body, as on the full route."""
    if fast.n == 1 and fast.media == PNG:
        seeded, pinned = _identified(fast)
        return one_png(request, generated, seeded, pinned, service.identity, root)
    metadata = _metadata(service, fast, request, generated.samples, root)
    response = images_response(Rendering(fast.media), generated.images, metadata, generated.timing)
    return header_lines(response.raw_headers), bytes(response.body)


def _identified(fast: FastRequest) -> tuple[bool, bool]:
    """Whether a request names a seed, and its model's digest."""
    return fast.seed is not None, fast.model is not None and "@" in fast.model


def _metadata(
    service: Service,
    fast: FastRequest,
    request: GenerateRequest,
    samples: Sequence[Sample],
    root: str,
) -> ResponseMetadata:
    seeded, pinned = _identified(fast)
    rendering, identity = Rendering(fast.media), service.identity
    return generate_metadata(request, samples, rendering, seeded, pinned, identity, root)
