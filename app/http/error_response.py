"""Errors as HTTP responses: RFC 9457 problem details, a page for browsers, or the Open Inference
Protocol's form."""

import json
import logging
from urllib.parse import unquote

import httptools

from app.errors import ServiceError
from app.formats.media_types import HTML, JSON
from app.rendering.html import error_page

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]

PROBLEM = "application/problem+json"
V2 = "/v2"  # paths of the Open Inference Protocol, which has an error format of its own


def as_service_error(error: Exception, request_id: str) -> ServiceError:
    """The error to answer with; anything unexpected is logged whole and answered neutrally."""
    if not isinstance(error, ServiceError):
        log.error("request %s failed", request_id, exc_info=error)
        return ServiceError("the service failed on this request; it is logged under its id")
    if error.status == 500:
        # The cause is the model's own exception; the request's contents are not logged.
        log.error("request %s: %s", request_id, error.detail, exc_info=error.__cause__)
    return error


def is_v2(path: str) -> bool:
    """Whether the path belongs to the Open Inference Protocol."""
    return path == V2 or path.startswith(f"{V2}/")


def v2_status(status: int) -> int:
    """The status under /v2, where 400 covers both bodies that do not parse and wrong values."""
    return 400 if status == 422 else status


def path_of(target: bytes) -> str:
    """The path of a request's target; of a malformed one, what stands before its query."""
    try:
        path = httptools.parse_url(target).path or b""
    except httptools.HttpParserInvalidURLError:
        path = target.partition(b"?")[0]
    return unquote(path.decode("latin-1"))


def shows_pages(accept: bytes) -> bool:
    """Whether an Accept header is a browser's that opens an address. Programs whose libraries send
    text/html with everything, such as Java's URLConnection, do not name this type."""
    return b"application/xhtml+xml" in accept


def problem(
    error: ServiceError, request_id: str, path: str, root: str, as_page: bool = False
) -> tuple[int, Headers, bytes]:
    """Status, headers and body of an error; every error response is built here.

    Args:
        error: What is wrong.
        request_id: Of the request.
        path: Of the request, below ``root``.
        root: Path under which clients find the service.
        as_page: Whether a person reads it, in a browser.
    """
    status, media = error.status, PROBLEM
    if is_v2(path):
        status, media = v2_status(status), JSON
        body = json.dumps({"error": error.detail}).encode()
    elif as_page:
        media = f"{HTML}; charset=utf-8"
        body = error_page(error, request_id, root).encode()
    else:
        body = json.dumps(error.problem(request_id, root)).encode()
    varies = [] if is_v2(path) else [(b"vary", b"Accept")]
    headers = [
        (b"content-type", media.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in error.headers.items()),
        *varies,
    ]
    return status, headers, body


def common_headers(request_id: str) -> Headers:
    """Headers of every response."""
    return [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]


def common_lines(request_id: bytes) -> bytes:
    """``common_headers`` as they stand on the wire."""
    return b"x-request-id: %b\r\nx-content-type-options: nosniff\r\n" % request_id


def header_lines(headers: Headers) -> bytes:
    """Headers as they stand on the wire."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])
