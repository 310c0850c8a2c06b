"""Which bytes are a fast request, and what is read from them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.generate import query_reader
from app.api.router import build_router
from app.formats.media_types import JSON, WEBP
from app.http.access import Access, Hosts, Keys
from app.http.fast_request import FastRequest, FastRequestParser, Peer
from app.http.forwarded import TrustedProxies
from app.rendering.image_query import ImageQuery
from app.rendering.options import Rendering
from app.settings import Settings
from tests.app.full_route import FULL_ROUTE

REQUEST = b"POST /generate?label=7&seed=1 HTTP/1.1\r\nHost: test\r\n\r\n"
READ_QUERY = query_reader(build_router(Settings()).routes, Settings())
CLIENT = Peer("192.0.2.1", "192.0.2.1")
PROXY = Peer("127.0.0.1", "127.0.0.1", trusted=True)


def make_parser(keys: tuple[str, ...] = (), origins: tuple[str, ...] = ()) -> FastRequestParser:
    access = Access(Hosts(), Keys(keys), frozenset(origins))
    return FastRequestParser(READ_QUERY, access, TrustedProxies(), "/root")


@pytest.fixture
def parser() -> FastRequestParser:
    return make_parser()


def parse(data: bytes) -> FastRequest | None:
    """As a parser that has seen nothing else."""
    return make_parser().parse(data, CLIENT)


def test_everything_that_a_fast_request_may_say_is_read() -> None:
    client, root = CLIENT.client, "/root"
    assert parse(REQUEST) == FastRequest("POST", ImageQuery(label="7", seed=1), client, root)
    assert parse(
        b"GET /generate?model=a@0123456789ab&n=5&seed=0&format=json HTTP/1.1\r\nHOST: localhost\r\n"
        b"Accept: image/png\r\nX-Timeout-Ms: 100\r\nX-Request-ID: mine\r\nConnection: Close\r\n"
        b'If-None-Match: "x"\r\nTraceparent: a\r\nTracestate: b\r\n\r\n'
    ) == FastRequest(
        "GET",
        ImageQuery("a@0123456789ab", n=5, seed=0, rendering=Rendering(JSON)),
        *(client, root, 100, "mine"),
        closes=True,
        if_none_match='"x"',
        traceparent="a",
        tracestate="b",
    )
    request: Any = parse(
        b"GET /generate?seeds=3,1-2&truncation=0.5&scale=2&metadata=none&label=%37 HTTP/1.1\r\n"
        b"Host: a\r\nAccept: text/plain, image/*;q=0.1, image/webp\r\n\r\n"
    )
    rendering = Rendering(WEBP, scale=2, metadata="none")
    seeds = (3, 1, 2)
    assert request.query == ImageQuery(None, "7", 1, None, seeds, 0.5, rendering)
    request = parse(b"GET /livez HTTP/1.1\r\nX-Request-ID: not harmless!\r\n\r\n")
    assert request == FastRequest("GET", None, client, root)


@pytest.mark.parametrize(
    "line",
    [
        b"Host: again",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 1",
        b"Content-Length: 00",
        b"Connection: upgrade",
        b"Connection: close, keep-alive",
        b"Proxy-Connection: close",
        b"Upgrade: h2c",
        b"Expect: 100-continue",
        b"Accept: text/html",
        b"Accept: */*\r\naccept: image/png",
        b"Origin: http://elsewhere",
        b"Sec-Fetch-Site: cross-site",
        b"X-Timeout-Ms: 0",
        b"X-Timeout-Ms: 1\r\nX-Timeout-Ms: 2",
        b" folded",
        b"no colon",
        b"Accept : */*",
        b"X-Bare: \n",
        b"X-Null: \0",
        b"X-Many: 1\r\n" * 99 + b"X-Last: 1",
    ],
)
def test_what_is_refused_or_unusual_takes_the_full_route(line: bytes) -> None:
    request = b"POST /generate?label=7 HTTP/1.1\r\nHost: test\r\n"
    assert parse(request + b"\r\n")
    assert parse(request + line + b"\r\n\r\n") is None


@pytest.mark.parametrize(
    "line",
    [
        b"X-Anything: else",
        b"X-Anything: else\r\nX-Anything: else",
        b"X_Under.Score: 1",
        b"Cookie: \xe9",
        b"Range: bytes=0-",
        b"X-Empty:",
        b"X-Forwarded-For: 192.0.2.99",
        b"X-Forwarded-Prefix: /elsewhere",
        b"X-Forwarded-Host: elsewhere.example.com",
        b"Authorization: Bearer guessed",
        b"Origin: http://test",
        b"Sec-Fetch-Site: same-origin",
        b"X-Request-ID: not harmless!",
    ],
)
def test_headers_that_change_nothing_are_ignored(line: bytes) -> None:
    request = b"POST /generate?label=7 HTTP/1.1\r\nHost: test\r\n"
    assert parse(request + b"\r\n") == parse(request + line + b"\r\n\r\n") is not None


@pytest.mark.parametrize(
    "start",
    [
        b"POST /generate?label=7 HTTP/1.0",
        b"POST /generate?label=7#x HTTP/1.1",
        b"POST /generate?label=7?x HTTP/1.1",
        b"POST //generate?label=7 HTTP/1.1",
        b"POST http://test/generate?label=7 HTTP/1.1",
        b"HEAD /generate?label=7 HTTP/1.1",
        b"post /generate?label=7 HTTP/1.1",
        b"POST  /generate?label=7 HTTP/1.1",
        b"POST /generate?label=7&label=7 HTTP/1.1",
        b"POST /generate?lable=7 HTTP/1.1",
        b"POST /generate?n=65 HTTP/1.1",
        b"POST /generate?n=07 HTTP/1.1",
        b"POST /generate?seed=9007199254740992 HTTP/1.1",
        b"POST /generate?seed=1&seeds=1 HTTP/1.1",
        b"POST /generate? HTTP/1.1 HTTP/1.1",
        b"POST /livez HTTP/1.1",
        b"GET /livez?x HTTP/1.1",
    ],
)
def test_an_unusual_request_line_takes_the_full_route(start: bytes) -> None:
    assert parse(start + b"\r\nHost: test\r\n\r\n") is None


def test_images_are_for_hosts_that_are_answered_to_and_liveness_for_all() -> None:
    for host in (b"", b"Host: public.example.com\r\n", b"Host: a b\r\n"):
        request = b"GET %b HTTP/1.1\r\nUser-Agent: x\r\n" + host + b"\r\n"
        assert parse(request % b"/generate") is None
        assert parse(request % b"/livez")


def test_where_keys_are_needed_the_client_is_known_by_its_key() -> None:
    parser = make_parser(keys=("first-key", "second-key"))
    line = b"GET /generate HTTP/1.1\r\nHost: a\r\nAuthorization: %b\r\n\r\n"
    first, second = (
        parser.parse(line % key, CLIENT) for key in (b"Bearer first-key", b"bearer  second-key")
    )
    assert first
    assert second
    assert first.client != second.client != CLIENT.client
    for wrong in (b"Bearer first-ke", b"Basic first-key", b"", b"Bearer"):
        assert parser.parse(line % wrong, CLIENT) is None
    assert parser.parse(REQUEST, CLIENT) is None
    assert parser.parse(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n", CLIENT)


def test_pages_that_may_use_the_service_take_the_full_route_for_their_headers() -> None:
    parser = make_parser(origins=("https://page.example.com",))
    assert parser.parse(REQUEST, CLIENT)
    for origin in (b"https://page.example.com", b"http://test"):
        line = b"Host: test\r\nOrigin: %b" % origin
        assert parser.parse(REQUEST.replace(b"Host: test", line), CLIENT) is None


def test_a_trusted_proxy_says_who_asks_and_where() -> None:
    parser = make_parser()
    line = b"POST /generate HTTP/1.1\r\nHost: test\r\n%b\r\n\r\n"
    said = line % b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Prefix: /api"
    request = parser.parse(said, PROXY)
    assert request
    assert (request.client, request.root) == ("203.0.113.7", "/api")
    assert request.path == "/api/generate"
    request = parser.parse(line % b"Forwarded: for=203.0.113.8;host=localhost", PROXY)
    assert request
    assert (request.client, request.root) == ("203.0.113.8", "/root")
    assert parser.parse(line % b"X-Forwarded-Host: public.example.com", PROXY) is None
    assert parser.parse(line % b"X-Forwarded-Host: a\r\nOrigin: http://test", PROXY) is None
    assert parser.parse(line % b"X-Forwarded-Host: a\r\nOrigin: http://a", PROXY)


@given(st.binary(max_size=300))
def test_no_bytes_make_the_parser_fail(data: bytes) -> None:
    parser = make_parser()
    assert parser.parse(data, CLIENT) is None
    for position in range(0, len(REQUEST), 7):
        parser.parse(REQUEST[:position] + data + REQUEST[position:], PROXY)


def test_uploads_and_secrets_are_not_kept_in_the_cache(parser: FastRequestParser) -> None:
    secret = b"POST /encode HTTP/1.1\r\nHost: test\r\nAuthorization: secret\r\n\r\n"
    for size in (0, 100, 10_000):
        assert parser.parse(secret + bytes(size), CLIENT) is None
        assert parser.parse(REQUEST + bytes(size or 1), CLIENT) is None
    assert parser.cached == 0
    for number in range(20):
        key = b"Authorization: key-%d" % number
        assert parser.parse(REQUEST.replace(b"Host: test", b"Host: test\r\n" + key), CLIENT)
        assert parser.parse(REQUEST.replace(b"seed=1", b"seed=%d" % (number + 1)), CLIENT)
    assert parser.cached == 1
    long = b"seeds=" + b",".join(b"%d" % seed for seed in range(10**9, 10**9 + 60))
    assert parser.parse(REQUEST.replace(b"seed=1", long), CLIENT)
    assert parser.cached == 1


@pytest.mark.parametrize(
    ("query", "seed"),
    [
        (b"seed=1", 1),
        (b"seed=0", 0),
        (b"label=7&seed=9007199254740991&n=1", 9007199254740991),
        (b"seed=9007199254740992", None),
        (b"seed=12345678901234567", None),
        (b"seed=07", None),
        (b"seed=7&seed=8", None),
        (b"seed=8&xseed=7", None),
        (b"label=seed=7", None),
        (b"seed=", None),
    ],
)
def test_a_seed_is_read_as_if_nothing_were_cached(
    parser: FastRequestParser, query: bytes, seed: int | None
) -> None:
    line = b"GET /generate?%b HTTP/1.1\r\nHost: a\r\n\r\n"
    for _ in range(2):
        request = parser.parse(line % query, CLIENT)
        assert request == parse(line % query)
        assert (request and request.query and request.query.seed) == seed
        parser.parse(line % b"seed=5", CLIENT)
    # What stands in a header is no seed of the request.
    header = b"GET /generate HTTP/1.1\r\nHost: a\r\nUser-Agent: x?seed=%b \r\n\r\n"
    found: Any = parser.parse(header % b"7", CLIENT)
    assert found.query.seed is None


def test_what_tests_of_the_full_route_send_takes_it() -> None:
    assert parse(REQUEST)
    for name, value in FULL_ROUTE.items():
        line = f"{name}: {value}\r\n\r\n".encode()
        assert parse(REQUEST.removesuffix(b"\r\n") + line) is None
