"""The usual form of /generate, and of /livez, answered without ASGI.

A request's way through uvicorn's parser and task, Starlette and FastAPI costs more than its share
of a forward pass (docs/log.md). So a request that came whole, has a plain query, no body and no
unusual header, and takes a form that is quickly written, is read here by one regular expression,
and its images are asked for with a callback. Whatever is unusual, wrong or rare goes the full way,
which the OpenAPI describes. Both end in the same service and the same reply.

Whether the process lives has to be told in time however many others ask. The full way takes two
turns of the event loop, and in an overload each is long.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

from starlette.datastructures import State

from app import seeds
from app.batching.admission import OverloadError
from app.batching.ticket import ClientDisconnectedError
from app.core.metrics import Metrics
from app.core.requests import TIMEOUT_HEADER, Generated, GenerateRequest
from app.core.service import Service, refusal_reason
from app.engines.rows import OperationKey
from app.errors import ServiceError
from app.formats.media_types import JSON, NPY, PNG, SHORT, ZIP
from app.http.error_response import as_service_error, common_headers, header_lines, problem
from app.http.middleware import CLIENT_LEFT, REQUEST_ID, new_request_id
from app.rendering.lineage import generate_metadata
from app.rendering.options import Rendering
from app.rendering.responses import images_response, one_png

PATH = "/generate"
# In which new requests are looked at before the event loop does anything else. In an overload they
# come by the thousand in one turn of the loop; the model would stand still until all are refused.
# Longer, up to so long, where they have waited for as long, for to refuse at once comes first.
_SLICE_S, _MOST_SLICE_S = 0.005, 0.02
MOST_BYTES = 2048
_HEADERS = rb"((?:[A-Za-z0-9-]+:[\t\x20-\x7e]*\r\n)+)\r\n"
_REQUEST = re.compile(
    rb"(GET|POST) " + PATH.encode() + rb"(?:\?([A-Za-z0-9._=&@-]*))? HTTP/1\.1\r\n" + _HEADERS
)
_LIVEZ = re.compile(rb"GET /livez HTTP/1\.1\r\n" + _HEADERS)
_ALIVE = b'{"status":"alive"}'
_ALIVE_LINES = b"content-length: %d\r\ncontent-type: application/json\r\n" % len(_ALIVE)
_MAY_BE = re.compile(rb"(?:GET|POST) " + PATH.encode() + rb"[ ?]")
_NOTHING = re.compile(rb"(?!)")
_SEED = re.compile(rb"[A-Z]+ [^ ]*[?&]seed=([1-9][0-9]{0,15})(?=[& ])")  # in the first line's query
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,15}")
_FORMS = (PNG, JSON, NPY, ZIP)  # not WebP, which takes long
_FORMATS = {SHORT[media].encode(): media for media in _FORMS}
_ACCEPTED = {b"*/*": PNG, b"image/*": PNG, **{media.encode(): media for media in _FORMS}}
_PARAMETERS = {  # nothing that needs decoding
    b"model": re.compile(rb"[A-Za-z0-9._-]{1,64}(@[0-9a-f]{12,64})?"),
    b"label": re.compile(rb"[A-Za-z0-9._-]{1,64}"),
    b"n": _NUMBER,
    b"seed": _NUMBER,
    b"format": re.compile(b"|".join(_FORMATS)),
}
_TIMEOUT, _ID = TIMEOUT_HEADER.lower().encode(), b"x-request-id"
# Headers, by the values with which they change nothing; None = any. All others are unusual.
_PLAIN_HEADERS: dict[bytes, re.Pattern[bytes] | None] = {
    b"host": None,
    b"user-agent": None,
    b"accept-encoding": None,
    b"accept": re.compile(b"|".join(map(re.escape, _ACCEPTED))),
    b"connection": re.compile(rb"(?i)keep-alive|close"),
    b"content-length": re.compile(rb"0"),
    _TIMEOUT: re.compile(rb"[1-9][0-9]{0,15}"),
    _ID: re.compile(REQUEST_ID.pattern.encode()),
}

Answer = Callable[[int, bytes, bytes], None]  # status, header lines, body
Allows = Callable[[str], bool]
_Made = Generated | Exception  # named once: inside a function it would be made at each call


class Plain(NamedTuple):
    """A plain request."""

    method: str
    model: str | None
    label: str | None
    n: int
    seed: int | None
    timeout_ms: int | None
    request_id: str | None
    media: str = PNG  # of the answer
    closes: bool = False  # the connection ends with it


def _headers(block: bytes, host: Allows) -> dict[bytes, bytes] | None:
    """Values by lower-case name; None = a header is unusual, comes twice, or Host is missing or not
    one that is answered to."""
    found: dict[bytes, bytes] = {}
    for line in block[:-2].split(b"\r\n"):
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name in found or name not in _PLAIN_HEADERS:
            return None
        pattern = _PLAIN_HEADERS[name]
        if pattern and not pattern.fullmatch(value):
            return None
        found[name] = value
    return found if b"host" in found and host(found[b"host"].decode()) else None


def _closes(headers: dict[bytes, bytes]) -> bool:
    """Whether the connection is to end with the answer."""
    return headers.get(b"connection", b"").lower() == b"close"


def parse(data: bytes, max_n: int, host: Allows) -> Plain | None:
    """One whole plain request; None = let the full route look at it.

    Args:
        data: What came.
        max_n: Images of one request at most.
        host: Whether a Host header's value is answered to.
    """
    if not (request := _REQUEST.fullmatch(data)):
        return None
    method, query, block = request.groups()
    headers = _headers(block, host)
    if headers is None:
        return None
    found: dict[bytes, bytes] = {}
    for part in query.split(b"&") if query else ():
        name, _, value = part.partition(b"=")
        pattern = _PARAMETERS.get(name)
        if pattern is None or name in found or not pattern.fullmatch(value):
            return None
        found[name] = value
    n = int(found.get(b"n", b"1"))
    seed = int(found[b"seed"]) if b"seed" in found else None
    if not 1 <= n <= max_n or (seed is not None and seed > seeds.MAX_SEED):
        return None
    model, label = found.get(b"model"), found.get(b"label")
    form = found.get(b"format")  # else Accept tells, as in the full route
    return Plain(
        method.decode(),
        model.decode() if model else None,
        label.decode() if label else None,
        n,
        seed,
        int(headers[_TIMEOUT]) if _TIMEOUT in headers else None,
        headers[_ID].decode() if _ID in headers else None,
        _FORMATS[form] if form else _ACCEPTED[headers.get(b"accept", b"*/*")],
        _closes(headers),
    )


@dataclass(slots=True)
class _Refusal:
    """What one request was refused with. Until the batcher changes by more than new requests, the
    next of its kind is refused as well, and need not be looked at."""

    count: Callable[[int], None]
    status: int
    lines: bytes  # of headers, but for those of the one request
    body: tuple[bytes, bytes]  # before and after the request's id
    times: int = 0  # given to others, and not counted yet


_Kind = tuple[str, str | None, str | None, int, str | None]


class Lean:
    """Reads plain requests and asks the service for their images.

    Args:
        state: Its ``service`` is there once the application has started.
        metrics: What requests are counted in.
        max_n: Images of one request at most.
        host: As in ``parse``.
        open_to_all: Whether no request needs a key. Otherwise none is plain.
    """

    def __init__(
        self, state: State, metrics: Metrics, max_n: int, host: Allows, open_to_all: bool
    ) -> None:
        self._state = state
        self._metrics = metrics
        self._host = host
        self._arrived: deque[tuple[float, Plain, str | None, Callable[[], bool], Answer]] = deque()
        self._refused: dict[_Kind, _Refusal] = {}
        self._refused_at = 0  # the batcher's count of changes, when they were refused
        self._forgets: asyncio.TimerHandle | None = None
        self._turn_ends: float | None = None  # to look on arrival, in this turn of the loop
        self._may_be = _MAY_BE if open_to_all else _NOTHING
        # But for the seed, one client's requests are all the same bytes.
        self._parse: Callable[[bytes], Plain | None] = lru_cache(1024)(
            partial(parse, max_n=max_n, host=host)
        )

    def parse(self, data: bytes) -> Plain | None:
        """``parse``; what may be an upload is not even looked up, for a cache keeps its keys."""
        if len(data) > MOST_BYTES or not self._may_be.match(data):
            return None
        if not (found := _SEED.match(data)):
            return self._parse(data)
        start, end = found.span(1)
        plain = self._parse(data[:start] + b"0" + data[end:])
        seed = int(found[1])
        return plain._replace(seed=seed) if plain and seed <= seeds.MAX_SEED else None

    def livez(self, data: bytes) -> tuple[bytes, bytes, bool] | None:
        """Header lines, body, and whether to close after them, for one whole plain /livez of a
        process that lives; None = let the full route look at it."""
        if len(data) > MOST_BYTES or not (request := _LIVEZ.fullmatch(data)):
            return None
        headers, service = _headers(request[1], self._host), self._state.service
        if headers is None or service.health.restart_reason():
            return None
        self._metrics.request("GET", "/livez", 200)
        request_id = headers[_ID] if _ID in headers else new_request_id().encode()
        return _ALIVE_LINES + _own_lines(request_id), _ALIVE, _closes(headers)

    def refusal(self, error: ServiceError, path: str = "") -> tuple[int, bytes, bytes]:
        """Status, header lines and body for what no application could be given.

        Args:
            error: Why.
            path: What was asked for, as far as it is known.
        """
        request_id = new_request_id()
        self._metrics.request("other", "other", error.status)
        status, headers, body = problem(error, request_id, path)
        return status, header_lines([*headers, *common_headers(request_id)]), body

    def ask(
        self, plain: Plain, client: str | None, left: Callable[[], bool], answer: Answer
    ) -> None:
        """Have a request answered; of many, in turn with what else the event loop has to do.

        Args:
            plain: The request.
            client: Who asks, as ``clients`` names it.
            left: Whether the client has gone away.
            answer: Called once, perhaps at once; not for a client that has gone.
        """
        if not self._arrived and self._in_turn():
            self._look(plain, client, left, answer)
            return
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._take)
        self._arrived.append((time.perf_counter(), plain, client, left, answer))

    def _take(self) -> None:
        """Look at what has arrived, for a while."""
        now = time.perf_counter()
        ends = now + min(_MOST_SLICE_S, max(_SLICE_S, now - self._arrived[0][0]))
        try:
            while self._arrived:
                _, plain, client, left, answer = self._arrived.popleft()
                self._look(plain, client, left, answer)
                if time.perf_counter() > ends:
                    break
        finally:  # whatever went wrong with one, the others are still to be looked at
            if self._arrived:
                asyncio.get_running_loop().call_soon(self._take)

    def _look(
        self, plain: Plain, client: str | None, left: Callable[[], bool], answer: Answer
    ) -> None:
        if not (self._refused and self._is_refused(plain, client, answer)):
            self._begin(plain, client, left, answer)

    def _in_turn(self) -> bool:
        """Whether there is time left to look on arrival before the event loop has its turn."""
        now = time.perf_counter()
        if self._turn_ends is None:
            self._turn_ends = now + _SLICE_S
            asyncio.get_running_loop().call_soon(self._end_turn)
        return now < self._turn_ends

    def _end_turn(self) -> None:
        self._turn_ends = None

    def _is_refused(self, plain: Plain, client: str | None, answer: Answer) -> bool:
        """Refuse what is like one that was just refused."""
        service: Service = self._state.service
        if self._refused_at != service.batcher.changes or service.stopping:
            self._forget()
            return False
        known = self._refused.get(_kind(plain, client)) if _is_usual(plain) else None
        if known is None:
            return False
        known.times += 1
        told_id = new_request_id().encode()
        answer(known.status, known.lines + _own_lines(told_id), told_id.join(known.body))
        return True

    def _forget(self) -> None:
        """Look at all that comes again."""
        if self._forgets:
            self._forgets.cancel()
            self._forgets = None
        forgotten, self._refused = self._refused, {}
        for kind, refusal in forgotten.items():
            if refusal.times:
                refusal.count(refusal.times)
                self._metrics.request(kind[0], PATH, refusal.status, refusal.times)

    def _begin(
        self,
        plain: Plain,
        client: str | None,
        left: Callable[[], bool],
        answer: Answer,
    ) -> None:
        service: Service = self._state.service
        request_id = plain.request_id or new_request_id()
        told = partial(self._failed, plain, request_id, answer)
        try:
            caller = service.begin_request(plain.timeout_ms, left, client)
        except Exception as error:
            told(error)
            return
        try:
            to_generate = service.generate_request(
                plain.model, plain.label, plain.n, plain.seed, caller
            )
        except Exception as error:
            service.end_request()
            told(error)
            return

        def made(images: _Made) -> None:
            service.end_request()
            if isinstance(images, Exception):
                if _is_usual(plain) and isinstance(images.__cause__, OverloadError):
                    lane: OperationKey = (to_generate.model.name, "generate")
                    # Without the error itself: its frames know this connection, which would stay.
                    count = partial(self._metrics.refused, lane, refusal_reason(images.__cause__))
                    refusal = _refusal(images, request_id, count)
                    self._refuse_alike(_kind(plain, client), refusal, service.batcher.changes)
                told(images)
                return
            try:
                lines, body = _reply(service, plain, to_generate, images)
            except Exception as error:
                told(error)
                return
            self._metrics.request(plain.method, PATH, 200)
            answer(200, lines + _own_lines(request_id.encode()), body)

        service.start_generate(to_generate, made)

    def _refuse_alike(self, kind: _Kind, refusal: _Refusal, changes: int) -> None:
        if self._refused_at != changes:
            self._forget()
        if not self._refused:
            self._refused_at = changes
            self._forgets = asyncio.get_running_loop().call_later(_MOST_SLICE_S, self._forget)
        self._refused[kind] = refusal

    def _failed(self, plain: Plain, request_id: str, answer: Answer, error: Exception) -> None:
        """There are no images, and never will be."""
        if isinstance(error, ClientDisconnectedError):
            self._metrics.request(plain.method, PATH, CLIENT_LEFT)
            return
        status, headers, body = problem(as_service_error(error, request_id), request_id, PATH)
        self._metrics.request(plain.method, PATH, status)
        answer(status, header_lines(headers) + _own_lines(request_id.encode()), body)


def _is_usual(plain: Plain) -> bool:
    """Whether an answer to others may be given to this one."""
    if plain.seed is not None and plain.seed + plain.n - 1 > seeds.MAX_SEED:
        return False  # it is wrong, and to ask again would not help
    return plain.timeout_ms is None and plain.request_id is None


def _kind(plain: Plain, client: str | None) -> _Kind:
    return plain.method, plain.model, plain.label, plain.n, client


def _own_lines(request_id: bytes) -> bytes:
    """``common_headers``, as they are sent."""
    return b"x-request-id: %b\r\nx-content-type-options: nosniff\r\n" % request_id


def _refusal(error: Exception, request_id: str, count: Callable[[int], None]) -> _Refusal:
    """What others are told whose ids are as long as this one."""
    status, headers, body = problem(as_service_error(error, request_id), request_id, PATH)
    before, _, after = body.partition(request_id.encode())
    return _Refusal(count, status, header_lines(headers), (before, after))


def _reply(
    service: Service, plain: Plain, to_generate: GenerateRequest, made: Generated
) -> tuple[bytes, bytes]:
    """Header lines and body, as the full route makes them."""
    seeded, pinned = plain.seed is not None, plain.model is not None and "@" in plain.model
    if plain.n == 1 and plain.media == PNG:
        return one_png(to_generate, made, seeded, pinned, service.identity)
    rendering = Rendering(plain.media)
    lineage = generate_metadata(
        to_generate, made.samples, rendering, seeded, pinned, service.identity
    )
    reply = images_response(rendering, made.images, lineage, made.timing)
    return header_lines(reply.raw_headers), bytes(reply.body)
