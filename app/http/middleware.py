"""Around every request: a request id, metrics, security headers, and a response to every error."""

import asyncio
import random
import re
import time
from collections.abc import Callable

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.batching.ticket import ClientDisconnectedError
from app.core.clients import by_address, current_client
from app.core.requests import waited_s
from app.core.telemetry.metrics import Metrics
from app.core.telemetry.tracing import TRACE_HEADER, RequestTrace, Tracing, current_trace
from app.errors import STOPPED_RETRY_S, NotReadyError, ServiceError
from app.http.access import root_path, route_path
from app.http.access_log import AccessLog
from app.http.error_response import as_service_error, common_headers, problem, shows_pages

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# base-uri, form-action and frame-ancestors do not fall back to default-src, so each is given. Only
# Swagger UI and ReDoc need an inline script to start.
_CSP = (
    b"default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'"
)
_CSP_DOCS = (
    _CSP + b"; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"worker-src 'self' blob:"
)
CLIENT_LEFT = 499  # the client disconnected; in the metrics alone, since nothing is sent
_HEAD = "genserve.head"  # in the scope of a HEAD request, which runs as GET
WAITED = "waited_s"  # in the scope's state: seconds for which it had waited for its turn
_AT_END = "at_end"  # in the scope's state: what is to be called
DOCS_PATHS = ("/docs", "/redoc")


class ResponseCutError(Exception):
    """A response that has begun cannot be finished, for a reason that is logged where there is
    anything to mend: the server has to close the connection."""


def _request_id(scope: Scope) -> str:
    """The client's X-Request-ID if it is harmless, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            if REQUEST_ID.fullmatch(given):
                return str(given)
    return new_request_id()


def new_request_id() -> str:
    """A random id, to find a request in the log; it is no secret."""
    return f"{random.getrandbits(64):016x}"


def _is_html(headers: list[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        if name == b"content-type":
            return value.startswith(b"text/html")
    return False


class RequestMiddleware:
    """Sets ``scope["state"]["request_id"]``; turns what is raised inside into responses.

    Plain ASGI, around all other middleware.

    Args:
        app: What is inside.
        metrics: Counts the responses.
        access_log: Lists them; None = none is kept.
        tracing: Of their spans; None = none.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        access_log: AccessLog | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.access_log = access_log
        self.tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, head = scope["method"], scope["method"] == "HEAD"
        if head:  # as GET, without the body (RFC 9110, section 9.3.2)
            scope = {**scope, "method": "GET", _HEAD: True}
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status, size, timing = 0, 0, b""
        waited = scope["state"].get(WAITED, 0.0)
        waited_s.set(waited)
        started = time.perf_counter() - waited
        trace = _begin_trace(self.tracing, scope) if self.tracing else None

        async def send_with_headers(message: Message) -> None:
            nonlocal status, size, timing
            if message["type"] == "http.response.start":
                status = message["status"]
                # Bytes, not Starlette's headers: this runs for every response, in an overload too.
                headers = message["headers"] = [
                    *message.get("headers", ()),
                    *common_headers(request_id),
                ]
                if trace:
                    headers.append((TRACE_HEADER.encode(), trace.id.encode()))
                if _is_html(headers):
                    docs = route_path(scope) in DOCS_PATHS
                    headers.append((b"content-security-policy", _CSP_DOCS if docs else _CSP))
                if self.access_log:
                    timing = dict(headers).get(b"server-timing", b"")
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)
            size += len(message.get("body", b""))

        try:
            await self.app(scope, receive, send_with_headers)
        except (ClientDisconnect, ClientDisconnectedError):
            status = CLIENT_LEFT
        except asyncio.CancelledError:
            if status:
                raise
            # Cancelled at the end of the drain.
            stopping = NotReadyError("the service is stopping", retry_after_s=STOPPED_RETRY_S)
            await _send_error(send_with_headers, stopping, scope)
        except Exception as error:
            # No further name for the error: its traceback holds this frame, and this frame would
            # hold it. The body would stay in memory until the garbage collector comes by.
            if status:
                as_service_error(error, request_id)  # logs it
                raise ResponseCutError from error
            await _send_error(send_with_headers, as_service_error(error, request_id), scope)
        finally:
            for release in scope["state"].get(_AT_END, ()):
                release()
            seconds = time.perf_counter() - started
            self.metrics.request(_method(method), _route(scope), status, seconds)
            if self.access_log:
                client = current_client.get() or by_address((scope.get("client") or ("",))[0])
                self.access_log.add(
                    *(client, method, scope["path"], status, request_id, timing, size, seconds),
                    trace_id=trace.id if trace else None,
                )
            if trace:
                trace.end(_method(method), _route(scope), status, request_id)


def _begin_trace(tracing: Tracing, scope: Scope) -> RequestTrace:
    """The span of a request, which is the current one from now on."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    trace = tracing.begin(headers.get(b"traceparent"), headers.get(b"tracestate"))
    current_trace.set(trace)
    return trace


async def _send_error(send: Send, error: ServiceError, scope: Scope) -> None:
    accept = dict(scope["headers"]).get(b"accept", b"")
    status, headers, body = problem(
        *(error, scope["state"]["request_id"], route_path(scope), root_path(scope)),
        as_page=shows_pages(accept),
    )
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def at_end(scope: Scope, release: Callable[[], None]) -> None:
    """Have something called when the request has ended, however it does."""
    scope["state"].setdefault(_AT_END, []).append(release)


def is_head(scope: Scope) -> bool:
    """Whether the request is HEAD: only the headers of the response are sent."""
    return _HEAD in scope


def _method(method: str) -> str:
    """The method's label in the metrics; a client can invent any number of methods."""
    known = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")
    return method if method in known else "other"


def _route(scope: Scope) -> str:
    """The route's label in the metrics: its template, of which there is a fixed number."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "other"
