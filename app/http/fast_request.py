"""Parses the plain form of /generate and /livez with one regular expression.

A fast request came whole, has no body, no escaped character in its query and no header that could
change the response in an unusual way. Anything else is ``None`` here, and takes the full route
through uvicorn's parser and FastAPI, which gives the same responses to the same requests.
"""

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

from app import seeds
from app.core.requests import TIMEOUT_HEADER
from app.formats.media_types import JSON, NPY, PNG, SHORT, ZIP
from app.http.middleware import REQUEST_ID

PATH = "/generate"
MAX_BYTES = 2048  # of a request; longer ones take the full route
_CACHED = 1024  # different requests; one client's differ in nothing but the seed

_HEADERS = rb"((?:[A-Za-z0-9-]+:[\t\x20-\x7e]*\r\n)+)\r\n"
_GENERATE = re.compile(
    rb"(GET|POST) " + PATH.encode() + rb"(?:\?([A-Za-z0-9._=&@-]*))? HTTP/1\.1\r\n" + _HEADERS
)
_LIVEZ = re.compile(rb"GET /livez HTTP/1\.1\r\n" + _HEADERS)
_CANDIDATE = re.compile(rb"(?:GET|POST) " + PATH.encode() + rb"[ ?]")
_NOTHING = re.compile(rb"(?!)")
_SEED = re.compile(rb"[A-Z]+ [^ ]*[?&]seed=([1-9][0-9]{0,15})(?=[& ])")  # in the first line's query
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,15}")

_MEDIA_TYPES = (PNG, JSON, NPY, ZIP)  # not WebP, which takes long to encode
_FORMATS = {SHORT[media].encode(): media for media in _MEDIA_TYPES}
_ACCEPTED = {b"*/*": PNG, b"image/*": PNG, **{media.encode(): media for media in _MEDIA_TYPES}}
_PARAMETERS = {  # none of these values has to be decoded
    b"model": re.compile(rb"[A-Za-z0-9._-]{1,64}(@[0-9a-f]{12,64})?"),
    b"label": re.compile(rb"[A-Za-z0-9._-]{1,64}"),
    b"n": _NUMBER,
    b"seed": _NUMBER,
    b"format": re.compile(b"|".join(_FORMATS)),
}
_IF_NONE_MATCH = b"if-none-match"
_FOR = b"x-forwarded-for"
_REROUTING = (b"x-forwarded-host", b"x-forwarded-prefix", b"forwarded")
_PARENT = b"traceparent"
_TIMEOUT, _ID = TIMEOUT_HEADER.lower().encode(), b"x-request-id"
# Header -> the values that are handled here; None = any value, since none changes the response.
_KNOWN_HEADERS: dict[bytes, re.Pattern[bytes] | None] = {
    b"host": None,
    b"user-agent": None,
    b"accept-encoding": None,
    b"accept": re.compile(b"|".join(map(re.escape, _ACCEPTED))),
    b"connection": re.compile(rb"(?i)keep-alive|close"),
    b"content-length": re.compile(rb"0"),
    _IF_NONE_MATCH: re.compile(rb'"[^",\\]*"'),
    # Those below count if a trusted proxy sends them, and the full route reads all but the first.
    _FOR: None,
    b"x-forwarded-proto": None,
    **dict.fromkeys(_REROUTING),
    _PARENT: None,
    b"tracestate": None,
    _TIMEOUT: re.compile(rb"[1-9][0-9]{0,15}"),
    _ID: re.compile(REQUEST_ID.pattern.encode()),
}

AllowsHost = Callable[[str], bool]  # whether the service answers to this Host header
Respond = Callable[[int, bytes, bytes], None]  # status, header lines, body


class FastRequest(NamedTuple):
    """A request for images that the fast path answers."""

    method: str
    model: str | None
    label: str | None
    n: int
    seed: int | None
    timeout_ms: int | None
    request_id: str | None
    media: str = PNG  # type of the response
    closes: bool = False  # the connection ends with the response
    forwarded_for: str | None = None
    if_none_match: str | None = None  # one strong entity tag
    rerouted: bool = False  # a proxy says that the client asked for another address
    traceparent: str | None = None


class FastLivez(NamedTuple):
    """A liveness probe that the fast path answers."""

    request_id: str | None
    closes: bool


def parse_generate(data: bytes, max_n: int, allows_host: AllowsHost) -> FastRequest | None:
    """One whole fast request for images, else None.

    Args:
        data: All bytes received.
        max_n: Images of one request at most.
        allows_host: Whether the service answers to a Host header's value.
    """
    if not (match := _GENERATE.fullmatch(data)):
        return None
    method, query, block = match.groups()
    headers = _parse_headers(block, allows_host)
    if headers is None:
        return None
    values: dict[bytes, bytes] = {}
    for part in query.split(b"&") if query else ():
        name, _, value = part.partition(b"=")
        pattern = _PARAMETERS.get(name)
        if pattern is None or name in values or not pattern.fullmatch(value):
            return None
        values[name] = value
    n = int(values.get(b"n", b"1"))
    seed = int(values[b"seed"]) if b"seed" in values else None
    if not 1 <= n <= max_n or (seed is not None and seed > seeds.MAX_SEED):
        return None
    model, label = values.get(b"model"), values.get(b"label")
    form = values.get(b"format")  # goes before Accept, as on the full route
    return FastRequest(
        method.decode(),
        model.decode() if model else None,
        label.decode() if label else None,
        n,
        seed,
        int(headers[_TIMEOUT]) if _TIMEOUT in headers else None,
        headers[_ID].decode() if _ID in headers else None,
        _FORMATS[form] if form else _ACCEPTED[headers.get(b"accept", b"*/*")],
        _closes(headers),
        headers[_FOR].decode() if _FOR in headers else None,
        headers[_IF_NONE_MATCH].decode() if _IF_NONE_MATCH in headers else None,
        any(name in headers for name in _REROUTING),
        headers[_PARENT].decode() if _PARENT in headers else None,
    )


def _parse_headers(block: bytes, allows_host: AllowsHost) -> dict[bytes, bytes] | None:
    """Values by lower-case name; None = one is unusual or repeated, or Host is missing or not
    allowed."""
    values: dict[bytes, bytes] = {}
    for line in block[:-2].split(b"\r\n"):
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name in values or name not in _KNOWN_HEADERS:
            return None
        pattern = _KNOWN_HEADERS[name]
        if pattern and not pattern.fullmatch(value):
            return None
        values[name] = value
    return values if b"host" in values and allows_host(values[b"host"].decode()) else None


def _closes(headers: dict[bytes, bytes]) -> bool:
    """Whether the client wants the connection closed after the response."""
    return headers.get(b"connection", b"").lower() == b"close"


class FastRequestParser:
    """Parses fast requests, and remembers the last different ones.

    Args:
        max_n: Images of one request at most.
        allows_host: Whether the service answers to a Host header's value.
        open_to_all: Whether requests need no key. Otherwise none for images is a fast one.
    """

    def __init__(self, max_n: int, allows_host: AllowsHost, open_to_all: bool) -> None:
        self._allows_host = allows_host
        self._candidate = _CANDIDATE if open_to_all else _NOTHING
        self._parse = lru_cache(_CACHED)(
            partial(parse_generate, max_n=max_n, allows_host=allows_host)
        )

    def generate(self, data: bytes) -> FastRequest | None:
        """``parse_generate``. Bytes that could be an upload never get into the cache."""
        if len(data) > MAX_BYTES or not self._candidate.match(data):
            return None
        if not (found := _SEED.match(data)):
            return self._parse(data)
        start, end = found.span(1)
        request = self._parse(data[:start] + b"0" + data[end:])  # one entry for all seeds
        seed = int(found[1])
        return request._replace(seed=seed) if request and seed <= seeds.MAX_SEED else None

    def livez(self, data: bytes) -> FastLivez | None:
        """One whole fast request for /livez, else None."""
        if len(data) > MAX_BYTES or not (match := _LIVEZ.fullmatch(data)):
            return None
        if (headers := _parse_headers(match[1], self._allows_host)) is None:
            return None
        return FastLivez(headers[_ID].decode() if _ID in headers else None, _closes(headers))

    @property
    def cached(self) -> int:
        """Requests in the cache."""
        return self._parse.cache_info().currsize
