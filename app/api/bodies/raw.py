"""The bytes of a request's body: Content-Type, Content-Encoding and limit."""

import zlib
from collections.abc import Collection
from typing import NoReturn

from starlette.requests import Request

from app.core.body_budget import BodyBudget
from app.core.clients import current_client
from app.errors import (
    BodyTooLargeError,
    InvalidParameterError,
    MalformedBodyError,
    UnsupportedMediaTypeError,
    shown,
)
from app.http.middleware import at_end

# Content-Encoding -> zlib's wbits; "deflate" means the zlib format (RFC 9110).
CODINGS = {"gzip": 31, "deflate": 15}
# What programs call types that are registered under another name.
_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}


def has_body(request: Request) -> bool:
    """Whether the request has a body."""
    length = request.headers.get("content-length", "0")
    return length != "0" or "transfer-encoding" in request.headers


def content_coding(request: Request, accepted: Collection[str] = ()) -> str | None:
    """The body's Content-Encoding; None = not encoded.

    Raises:
        UnsupportedMediaTypeError: it is not one of ``accepted``.
    """
    given = ", ".join(request.headers.getlist("content-encoding")) or "identity"
    coding = given.strip().lower()
    if coding == "identity":
        return None
    if coding not in accepted:
        allowed = f", or as {' or '.join(accepted)}" if accepted else ""
        raise UnsupportedMediaTypeError(
            f"Content-Encoding is {shown(given)}; send the body unencoded{allowed}",
            headers={"Accept-Encoding": ", ".join(accepted) or "identity"},
        )
    return coding


def media_type(request: Request, accepted: tuple[str, ...], codings: Collection[str] = ()) -> str:
    """The body's Content-Type without parameters.

    Raises:
        UnsupportedMediaTypeError: it is missing or not one of ``accepted``, or the body has an
            encoding that is not one of ``codings``.
    """
    given = request.headers.get("content-type", "")
    named = given.split(";")[0].strip().lower()
    media = _ALIASES.get(named, named)
    listed = ", ".join(accepted)
    if media not in accepted:
        problem = f"Content-Type is {shown(given)}" if given else "there is no Content-Type"
        raise UnsupportedMediaTypeError(
            f"{problem}; this operation reads {listed}", headers={"Accept-Post": listed}
        )
    content_coding(request, codings)
    return media


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Its bytes count in the process's ``BodyBudget`` until the request's end.

    Raises:
        BodyTooLargeError: Content-Length or the body exceeds ``limit`` bytes; the rest is not read.
        OverShareError, OverloadedError: there is no room for it.
    """

    def refuse(size: str) -> NoReturn:
        # Unread, the rest of the body would be parsed as the next request: close the connection.
        raise BodyTooLargeError(
            f"the body has {size} bytes; at most {limit} are read", headers={"Connection": "close"}
        )

    length = request.headers.get("content-length", "0")[:20]
    if length.isascii() and length.isdigit() and int(length) > limit:
        refuse(length)
    body = bytearray()
    budget: BodyBudget = request.app.state.service.bodies
    client = current_client.get()
    at_end(request.scope, lambda: budget.give_back(client, taken))
    taken = 0
    async for part in request.stream():
        if len(body) + len(part) > limit:
            refuse(f"over {limit}")
        budget.take(client, len(part))
        taken += len(part)
        body += part
    return bytes(body)


def inflate(body: bytes, coding: str, limit: int) -> bytes:
    """The decompressed body, at most ``limit`` bytes; ``coding`` is one of CODINGS.

    Raises:
        BodyTooLargeError: it would be larger.
        MalformedBodyError: it is corrupt or truncated, or has trailing bytes.
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
    """Refuse a body where all parameters are in the query.

    Raises:
        InvalidParameterError: there is a body; the message is ``detail``.
    """
    if has_body(request):
        raise InvalidParameterError(detail, headers={"Connection": "close"})
