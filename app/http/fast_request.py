"""Parses requests for /generate and /livez that came whole and have no body.

One regular expression reads the head. Of its headers a short list matters: those that decide who
may ask, what is answered, or how the connection goes on. All others are ignored, as on the full
route. Parameters, access and proxies are read by the same functions as there. Where those find
something wrong, and where a request is unusual in form, it is ``None`` here, and takes the full
route through uvicorn's parser, which says what is wrong.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from app import seeds
from app.core.clients import by_address
from app.core.requests import TIMEOUT_HEADER
from app.errors import ServiceError
from app.http.access import Access
from app.http.error_response import shows_pages
from app.http.forwarded import FORWARDING, Forwarded, TrustedProxies, read_forwarded
from app.http.middleware import REQUEST_ID
from app.rendering.image_query import ImageQuery

PATH, LIVEZ = "/generate", "/livez"
MAX_BYTES = 8192  # of a request; longer ones take the full route
_CACHED = 1024  # different queries; one client's differ in nothing but the seed
_MAX_CACHED = 512  # bytes of a query and an Accept header that are remembered

# What uvicorn's parser allows, and less: a field's name and value, and a query. At most 100 fields,
# as in ``app.http.connection.protocol``.
_FIELD = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n"
_HEAD = re.compile(
    rb"(GET|POST) (/generate|/livez)(?:\?([!\"$-><=@-~]*))? HTTP/1\.1\r\n((?:%b){1,100})\r\n"
    % _FIELD
)
_CANDIDATE = re.compile(rb"(?:GET|POST) /(?:generate[ ?]|livez )")
_SEED = re.compile(rb"(?:^|&)seed=([1-9][0-9]{0,15})(?=&|$)")

_TIMEOUT, _ID = TIMEOUT_HEADER.lower().encode(), b"x-request-id"
_ACCEPT, _IF_NONE_MATCH = b"accept", b"if-none-match"
_TRACE = (b"traceparent", b"tracestate")
_TEXTS = (  # header -> field of ``FastRequest``
    (_ID, "request_id"),
    (_IF_NONE_MATCH, "if_none_match"),
    *((name, name.decode()) for name in _TRACE),
)
_CONNECTION, _LENGTH = b"connection", b"content-length"
# Bodies, and what changes the connection: the full route reads them.
_UNUSUAL = frozenset((b"transfer-encoding", b"expect", b"upgrade", b"proxy-connection"))
_MATTER = _UNUSUAL.union(
    *(Access.HEADERS, FORWARDING, _TRACE),
    (_TIMEOUT, _ID, _ACCEPT, _IF_NONE_MATCH, _CONNECTION, _LENGTH),
)

# Reads query, Accept and X-Timeout-Ms; raises ServiceError. The last value is that of the timeout.
ReadQuery = Callable[[bytes, str, str | None], tuple[ImageQuery, int | None]]
Respond = Callable[[int, bytes, bytes], None]  # status, header lines, body
_Headers = dict[bytes, bytes]  # those that matter, by name in lower case


class Peer(NamedTuple):
    """Who is connected."""

    address: str = ""
    client: str | None = None  # as ``app.core.clients`` names it
    trusted: bool = False  # a proxy that is believed


class FastRequest(NamedTuple):
    """A request that the fast path answers."""

    method: str
    query: ImageQuery | None  # None = /livez
    client: str | None = None  # as ``app.core.clients`` names it
    root: str = ""  # path under which it finds the service
    timeout_ms: int | None = None
    request_id: str | None = None
    closes: bool = False  # the connection ends with the response
    if_none_match: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None

    @property
    def path(self) -> str:
        """As the full route's access log has it."""
        return self.root + (PATH if self.query else LIVEZ)


class FastRequestParser:
    """Parses fast requests.

    Args:
        read_query: Reads the parameters.
        access: Who may ask.
        proxies: Those to believe.
        root: Path under which clients find the service, where no proxy names one.
    """

    def __init__(
        self, read_query: ReadQuery, access: Access, proxies: TrustedProxies, root: str = ""
    ) -> None:
        self._read_query = read_query
        self._cached_query = lru_cache(_CACHED)(read_query)
        self._access = access
        self._proxies = proxies
        self._root = root

    def parse(self, data: bytes, peer: Peer) -> FastRequest | None:
        """One whole fast request, else None.

        Args:
            data: All bytes received.
            peer: Sent them.
        """
        if not _CANDIDATE.match(data) or len(data) > MAX_BYTES:
            return None
        if not (match := _HEAD.fullmatch(data)):
            return None
        method, path, query, block = match.groups()
        headers = _headers(block)
        if headers is None or (b"origin" in headers and self._access.allowed_origins):
            return None  # a page's browser gets further headers
        try:
            return self._read(method.decode(), path.decode(), query or b"", headers, peer)
        except ServiceError:
            return None

    def _read(
        self, method: str, path: str, query: bytes, headers: _Headers, peer: Peer
    ) -> FastRequest | None:
        said = Forwarded()
        if peer.trusted:
            said = read_forwarded(self._proxies, peer.address, headers.items())
        client = self._access.check(
            *(method, path, {name: [headers[name]] for name in Access.HEADERS if name in headers}),
            forwarded_host=said.host,
            client=by_address(said.client) if said.client else peer.client,
        )
        asked: ImageQuery | None = None
        timeout_ms: int | None = None
        if path == PATH:
            # A long one is parsed when its client's turn comes; browsers get errors as pages.
            if len(given := headers.get(_ACCEPT, b"")) > _MAX_CACHED or shows_pages(given):
                return None
            accept = given.decode("latin-1")
            timeout = headers[_TIMEOUT].decode("latin-1") if _TIMEOUT in headers else None
            asked, timeout_ms = self._query(query, accept, timeout)
        elif method != "GET" or query:
            return None
        root = said.root or self._root
        request = FastRequest(method, asked, client, root, timeout_ms)
        more: dict[str, Any] = {
            field: headers[name].decode("latin-1") for name, field in _TEXTS if name in headers
        }
        if "request_id" in more and not REQUEST_ID.fullmatch(more["request_id"]):
            del more["request_id"]
        if headers.get(_CONNECTION, b"").lower() == b"close":
            more["closes"] = True
        return request._replace(**more) if more else request

    def _query(
        self, query: bytes, accept: str, timeout: str | None
    ) -> tuple[ImageQuery, int | None]:
        """``ReadQuery``, from a cache that has one entry for all seeds."""
        if len(query) + len(accept) > _MAX_CACHED:
            return self._read_query(query, accept, timeout)
        found = _SEED.search(query)
        if not found or (seed := int(found[1])) > seeds.MAX_SEED:
            return self._cached_query(query, accept, timeout)
        start, end = found.span(1)
        seedless = query[:start] + b"0" + query[end:]
        asked, timeout_ms = self._cached_query(seedless, accept, timeout)
        return asked._replace(seed=seed), timeout_ms

    @property
    def cached(self) -> int:
        """Queries in the cache."""
        return self._cached_query.cache_info().currsize


def _headers(block: bytes) -> _Headers | None:
    """The headers that matter; None = one of them is repeated, or unusual."""
    headers: _Headers = {}
    for line in block.split(b"\r\n"):
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in _MATTER:
            if name in headers:
                return None
            headers[name] = value.strip(b" \t")
    if (
        not _UNUSUAL.isdisjoint(headers)
        or headers.get(_LENGTH, b"0") != b"0"
        or headers.get(_CONNECTION, b"close").lower() not in (b"close", b"keep-alive")
    ):
        return None
    return headers
