"""Which bytes are a fast request, and what is read from them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.formats.media_types import JSON, PNG
from app.http.access import Hosts
from app.http.fast_request import FastLivez, FastRequest, FastRequestParser, parse_generate

REQUEST = b"POST /generate?label=7&seed=1 HTTP/1.1\r\nHost: test\r\n\r\n"


def parse(data: bytes) -> FastRequest | None:
    return parse_generate(data, 64, Hosts().allows)


@pytest.fixture
def parser() -> FastRequestParser:
    return FastRequestParser(64, Hosts().allows, open_to_all=True)


def test_everything_that_a_fast_request_may_say_is_read() -> None:
    assert parse(REQUEST) == FastRequest("POST", None, "7", 1, 1, None, None)
    assert parse(
        b"GET /generate?model=a@0123456789ab&n=5&seed=0&format=json HTTP/1.1\r\nHOST: localhost\r\n"
        b"Accept: image/png\r\nX-Timeout-Ms: 100\r\nX-Request-ID: mine\r\nConnection: Close\r\n\r\n"
    ) == FastRequest("GET", "a@0123456789ab", None, 5, 0, 100, "mine", JSON, closes=True)
    request = parse(b"GET /generate HTTP/1.1\r\nHost: a\r\nAccept: image/*\r\n\r\n")
    assert request == FastRequest("GET", None, None, 1, None, None, None, PNG)


@pytest.mark.parametrize(
    "line",
    [
        b"Host: again",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 1",
        b"Content-Length: 00",
        b"Connection: upgrade",
        b"Expect: 100-continue",
        b"Accept: image/webp",
        b"If-None-Match: x",
        b"Origin: http://elsewhere",
        b"X-Timeout-Ms: 0",
        b"X-Request-ID: not harmless!",
        b"X-Anything: else",
        b" folded",
        b"no colon",
        b"Accept : */*",
    ],
)
def test_an_unusual_header_takes_the_full_route(line: bytes) -> None:
    request = b"POST /generate?label=7 HTTP/1.1\r\nHost: test\r\n"
    assert parse(request + b"\r\n")
    assert parse(request + line + b"\r\n\r\n") is None


@pytest.mark.parametrize(
    "start",
    [
        b"POST /generate?label=7 HTTP/1.0",
        b"POST /generate?label=%37 HTTP/1.1",
        b"POST /generate?label=7#x HTTP/1.1",
        b"POST //generate?label=7 HTTP/1.1",
        b"POST http://test/generate?label=7 HTTP/1.1",
        b"HEAD /generate?label=7 HTTP/1.1",
        b"post /generate?label=7 HTTP/1.1",
        b"POST  /generate?label=7 HTTP/1.1",
        b"POST /generate?label=7&label=7 HTTP/1.1",
        b"POST /generate?n=65 HTTP/1.1",
        b"POST /generate?n=07 HTTP/1.1",
        b"POST /generate?seed=9007199254740992 HTTP/1.1",
        b"POST /generate?scale=2 HTTP/1.1",
        b"POST /generate? HTTP/1.1 HTTP/1.1",
    ],
)
def test_an_unusual_request_line_takes_the_full_route(start: bytes) -> None:
    assert parse(start + b"\r\nHost: test\r\n\r\n") is None


def test_a_host_that_is_not_answered_to_takes_the_full_route(parser: FastRequestParser) -> None:
    for path in (b"/generate", b"/livez"):
        for host in (b"", b"Host: public.example.com\r\n", b"Host: a b\r\n"):
            request = b"GET " + path + b" HTTP/1.1\r\nUser-Agent: x\r\n" + host + b"\r\n"
            assert (parser.generate(request), parser.livez(request)) == (None, None)


@given(st.binary(max_size=300))
def test_no_bytes_make_the_parser_fail(data: bytes) -> None:
    assert parse(data) is None
    for position in range(0, len(REQUEST), 7):
        parse(REQUEST[:position] + data + REQUEST[position:])


def test_livez_is_read(parser: FastRequestParser) -> None:
    line = b"GET /livez HTTP/1.1\r\nHost: test\r\n"
    assert parser.livez(line + b"\r\n") == FastLivez(None, closes=False)
    more = b"X-Request-ID: mine\r\nConnection: close\r\n\r\n"
    assert parser.livez(line + more) == FastLivez("mine", closes=True)
    for other in (line + b"Cookie: a=b\r\n\r\n", line, line.replace(b"GET", b"POST") + b"\r\n"):
        assert parser.livez(other) is None


def test_where_keys_are_needed_no_request_for_images_is_a_fast_one() -> None:
    parser = FastRequestParser(64, Hosts().allows, open_to_all=False)
    assert parser.generate(REQUEST) is None
    assert parser.livez(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")


def test_uploads_and_secrets_are_not_kept_in_the_cache(parser: FastRequestParser) -> None:
    secret = b"POST /encode HTTP/1.1\r\nHost: test\r\nAuthorization: secret\r\n\r\n"
    for size in (0, 100, 10_000):
        assert parser.generate(secret + bytes(size)) is None
        assert parser.generate(REQUEST + bytes(size or 1)) is None
    assert parser.generate(REQUEST)
    assert parser.cached <= 3


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
        assert parser.generate(line % query) == parse(line % query)
        assert getattr(parser.generate(line % query), "seed", None) == seed
        parser.generate(line % b"seed=5")
    # What stands in a header is no seed of the request.
    header = b"GET /generate HTTP/1.1\r\nHost: a\r\nUser-Agent: x?seed=%b \r\n\r\n"
    request: Any = parser.generate(header % b"7")
    assert request.seed is None
    assert parser.cached <= 12
