"""Steps that several endpoints share: negotiation, uploads, cached and rendered responses."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel

from app.api.parameters.declared import RenderingOptions
from app.batching.ticket import Timing
from app.core.requests import RequestContext
from app.core.service import Service
from app.formats.media_types import FORMATS, HTML, JSON
from app.formats.pixels import Image
from app.http.access import root_path
from app.http.middleware import is_head
from app.http.negotiation import choose
from app.rendering.caching import etag_matches
from app.rendering.lineage import ResponseMetadata
from app.rendering.options import OFFERS, Rendering
from app.rendering.responses import headers_only, images_response, picture_encoding

Endpoint = Callable[..., Awaitable[Any]]

Content = TypeVar("Content")


def service_of(request: Request) -> Service:
    """The service behind the application."""
    service: Service = request.app.state.service
    return service


def root_of(request: Request) -> str:
    """``root_path`` of a request."""
    return root_path(request.scope)


def response_type(request: Request, format: str | None, offers: Sequence[str]) -> str:
    """The media type of the response: the parameter's, else the best for the Accept header.

    Raises:
        NotAcceptableError: Accept allows none of the ``offers``.
    """
    if format:
        return FORMATS[format]
    return choose(", ".join(request.headers.getlist("accept")), offers)


def rendering_of(request: Request, options: RenderingOptions) -> Rendering:
    """How the images of this request are to be returned.

    Raises:
        NotAcceptableError: Accept allows none of the image types.
    """
    format, scale, layout, frame_ms, metadata = options
    return Rendering(response_type(request, format, OFFERS), scale, layout, metadata, frame_ms)


def is_pinned(model: str | None) -> bool:
    """Whether a request names its model with the checkpoint's digest."""
    return model is not None and "@" in model


def not_modified(request: Request, etag: str) -> bool:
    """Whether the client has this version already, by If-None-Match."""
    tags = request.headers.getlist("if-none-match")
    return bool(tags) and etag_matches(", ".join(tags), etag)


def response_without_images(
    request: Request, metadata: ResponseMetadata, media: str
) -> Response | None:
    """The response that needs no model: to HEAD, and 304 to a client that has these images.

    Returns:
        None if the images are needed: other methods, or images without an ETag.
    """
    if metadata.etag is None or request.method != "GET":
        return None
    if not_modified(request, metadata.etag):
        return headers_only(media, metadata, 304)
    return headers_only(media, metadata, 200) if is_head(request.scope) else None


async def render(
    service: Service,
    rendering: Rendering,
    images: Sequence[Image],
    metadata: ResponseMetadata,
    timing: Timing,
    context: RequestContext,
) -> Response:
    """The response with the images; what takes long to encode is encoded elsewhere.

    Raises:
        ServiceError, ClientDisconnectedError: as ``CodecPool.run``.
    """
    started = time.perf_counter()
    encoding = picture_encoding(rendering, images, metadata)
    files = await service.pictures.encode(encoding, context) if encoding else None
    encode_s = time.perf_counter() - started
    return images_response(rendering, images, metadata, timing, files, encode_s)


def json_response(content: BaseModel, headers: Mapping[str, str]) -> Response:
    """A document with headers of its own."""
    return Response(content.model_dump_json(), media_type=JSON, headers=dict(headers))


def document_response(
    request: Request, content: Content, as_page: Callable[[Content, str], str]
) -> Response:
    """A document as JSON, or as an HTML page if the client prefers that.

    Args:
        request: What is asked.
        content: The document.
        as_page: Writes the page, given the root path as well.
    """
    headers = {"Vary": "Accept"}
    if response_type(request, None, (JSON, HTML)) == HTML:
        return HTMLResponse(as_page(content, root_of(request)), headers=headers)
    return JSONResponse(jsonable_encoder(content), headers=headers)
