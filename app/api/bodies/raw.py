"""The bytes of a request's body: its Content-Type, its coding, its limit."""

import zlib
from collections.abc import Collection
from typing import NoReturn

from starlette.requests import Request

from app.errors import (
    BodyTooLargeError,
    InvalidParameterError,
    MalformedBodyError,
    UnsupportedMediaTypeError,
    shown,
)

CODINGS = {"gzip": 31, "deflate": 15}  # of a body, by zlib's wbits; deflate is zlib's (RFC 9110)


def has_body(request: Request) -> bool:
    """Whether the request brings a body."""
    length = request.headers.get("content-length", "0")
    return length != "0" or "transfer-encoding" in request.headers


def content_coding(request: Request, accepted: Collection[str] = ()) -> str | None:
    """The body's Content-Encoding; None = it is sent as it is.

    Raises:
        UnsupportedMediaTypeError: it is none of ``accepted``.
    """
    given = ", ".join(request.headers.getlist("content-encoding")) or "identity"
    coding = given.strip().lower()
    if coding == "identity":
        return None
    if coding not in accepted:
        also = f", or as {' or '.join(accepted)}" if accepted else ""
        raise UnsupportedMediaTypeError(
            f"Content-Encoding is {shown(given)}; send the body as it is{also}",
            headers={"Accept-Encoding": ", ".join(accepted) or "identity"},
        )
    return coding


def media_type(request: Request, accepted: tuple[str, ...], codings: Collection[str] = ()) -> str:
    """The body's Content-Type without parameters.

    Raises:
        UnsupportedMediaTypeError: it is missing or none of ``accepted``, or the body is encoded
            and that is none of ``codings``.
    """
    given = request.headers.get("content-type", "")
    media = given.split(";")[0].strip().lower()
    listed = ", ".join(accepted)
    if media not in accepted:
        what = f"Content-Type is {shown(given)}" if given else "there is no Content-Type"
        raise UnsupportedMediaTypeError(
            f"{what}; this operation reads {listed}", headers={"Accept-Post": listed}
        )
    content_coding(request, codings)
    return media


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLargeError: it announces or brings more than ``limit`` bytes; the rest is not read.
    """

    def refuse(size: str) -> NoReturn:
        # The rest of the body would be taken for the next request: give up the connection.
        raise BodyTooLargeError(
            f"the body has {size} bytes; at most {limit} are read", headers={"Connection": "close"}
        )

    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
        refuse(announced[:20])
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            refuse(f"over {limit}")
    return bytes(body)


def inflate(body: bytes, coding: str, limit: int) -> bytes:
    """What was compressed, one of CODINGS; no more than ``limit`` bytes are made of it.

    Raises:
        BodyTooLargeError: it would be more.
        MalformedBodyError: it is not whole, or something comes after it.
    """
    stream = zlib.decompressobj(CODINGS[coding])
    try:
        data = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise MalformedBodyError(f"the body is not {coding}") from error
    if len(data) > limit:
        raise BodyTooLargeError(f"the body inflates to over {limit} bytes; at most these are read")
    if not stream.eof or stream.unused_data:
        raise MalformedBodyError(f"the body is not one whole {coding} stream")
    return data


async def refuse_body(
    request: Request,
    detail: str = "this operation reads no body; put the parameters into the query, as in ?label=7",
) -> None:
    """For operations whose parameters all stand in the query, and requests where they do.

    Raises:
        InvalidParameterError: there is a body.
    """
    if has_body(request):
        raise InvalidParameterError(detail, headers={"Connection": "close"})
