"""Around every request: an id, a count, safe headers, and an answer to every error."""

import asyncio
import json
import logging
import random
import re
from collections.abc import Callable

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.batching.ticket import LeftError
from app.core.metrics import Metrics
from app.errors import STOPPED_RETRY_S, NotReadyError, ServiceError
from app.formats.media_types import JSON

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# default-src stands in for neither base-uri, form-action nor frame-ancestors: each is named. No
# page of ours is sent by a form. Swagger UI and ReDoc start from an inline script; every other page
# does without.
_CSP = (
    b"default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'"
)
_CSP_DOCS = (
    _CSP + b"; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"worker-src 'self' blob:"
)
PROBLEM = "application/problem+json"
CLIENT_LEFT = 499  # nobody is there to be told; the status is for the metrics alone
_HEAD = "genserve.head"  # in the scope of a request that is GET but for its body
DOCS_PATHS = ("/docs", "/redoc")
V2 = "/v2"  # the Open Inference Protocol lies here, and has errors of its own


def _request_id(scope: Scope) -> str:
    """The caller's X-Request-ID if it is harmless, else a fresh one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            if REQUEST_ID.fullmatch(given):
                return str(given)
    return new_request_id()


def new_request_id() -> str:
    """To find a line in a log: not a secret."""
    return f"{random.getrandbits(64):016x}"


def _is_html(headers: list[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        if name == b"content-type":
            return value.startswith(b"text/html")
    return False


class RequestMiddleware:
    """Plain ASGI, the outermost layer but one. ``scope["state"]["request_id"]`` is the id."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, head = scope["method"], scope["method"] == "HEAD"
        if head:  # answered as GET is, without the body (RFC 9110, section 9.3.2)
            scope = {**scope, "method": "GET", _HEAD: True}
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # Raw, because this is done for every answer, refusals in an overload among them.
                headers = message["headers"] = [
                    *message.get("headers", ()),
                    *common_headers(request_id),
                ]
                if _is_html(headers):
                    docs = scope["path"] in DOCS_PATHS
                    headers.append((b"content-security-policy", _CSP_DOCS if docs else _CSP))
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except (ClientDisconnect, LeftError):
            status = CLIENT_LEFT
        except asyncio.CancelledError:
            if status:
                raise
            # Cut off at the end of the drain.
            late = NotReadyError("the service is stopping", retry_after_s=STOPPED_RETRY_S)
            await _send_error(send_with_headers, late, scope)
        except Exception as error:
            told = told_as(error, request_id)
            if status:
                raise  # the answer has begun: all that is left is to cut it off
            await _send_error(send_with_headers, told, scope)
        finally:
            self.metrics.request(_method(method), _route(scope), status)


def told_as(error: Exception, request_id: str) -> ServiceError:
    """What the caller is told of an error; what is ours to mend is logged."""
    if not isinstance(error, ServiceError):
        log.error("request %s failed", request_id, exc_info=error)
        return ServiceError("the service failed on this request; it is logged under its id")
    if error.status == 500:
        # The cause is the model's own exception; the request's contents are not logged.
        log.error("request %s: %s", request_id, error.detail, exc_info=error.__cause__)
    return error


def v2_status(status: int) -> int:
    """The status under /v2, whose protocol has one for what cannot be parsed and what is not
    acceptable."""
    return 400 if status == 422 else status


def is_v2(path: str) -> bool:
    """Whether the path is one of the Open Inference Protocol's."""
    return path == V2 or path.startswith(f"{V2}/")


def problem(error: ServiceError, request_id: str, path: str) -> tuple[int, Headers, bytes]:
    """The one place where an error becomes an answer: RFC 9457, or as /v2's protocol has it."""
    status, media = error.status, PROBLEM
    content = error.problem(request_id)
    if is_v2(path):
        status, media = v2_status(status), JSON
        content = {"error": error.detail}
    body = json.dumps(content).encode()
    headers = [
        (b"content-type", media.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in error.headers.items()),
    ]
    return status, headers, body


def common_headers(request_id: str) -> Headers:
    """What every answer has."""
    return [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]


def header_lines(headers: Headers) -> bytes:
    """Headers as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


async def _send_error(send: Send, error: ServiceError, scope: Scope) -> None:
    status, headers, body = problem(error, scope["state"]["request_id"], scope["path"])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def has_left(receive: Receive) -> Callable[[], bool]:
    """Whether the client has closed its connection: a function that tells without waiting.

    ASGI tells of it only to who awaits ``receive``. A task that does so costs more than a quarter
    of all that is done for a request of one image; one step of the coroutine does not. The
    request's body must have been read, or be empty.
    """

    def left() -> bool:
        for _ in range(2):  # an empty body that nobody has read yet comes first
            step = receive()
            try:
                step.send(None)  # type: ignore[attr-defined]  # it is a coroutine
            except StopIteration as told:
                if told.value["type"] == "http.disconnect":
                    return True
            else:
                step.close()  # type: ignore[attr-defined]
                break
        return False

    return left


def is_head(scope: Scope) -> bool:
    """Whether only the headers of the answer will be sent."""
    return _HEAD in scope


def _method(method: str) -> str:
    """The method, for the metrics: strangers can invent others."""
    known = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")
    return method if method in known else "other"


def _route(scope: Scope) -> str:
    """The template of the path, so that strangers cannot grow the metrics' label set."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "other"
