"""Steps that several endpoints share: negotiation, uploads, cached and rendered responses."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel

from app.api.parameters.declared import RenderingOptions
from app.core.service import Service
from app.formats.media_types import HTML, JSON
from app.http.access import root_path
from app.http.middleware import is_head
from app.http.negotiation import choose
from app.rendering.caching import etag_matches
from app.rendering.lineage import ResponseMetadata
from app.rendering.options import Rendering
from app.rendering.responses import headers_only

Endpoint = Callable[..., Awaitable[Any]]

Content = TypeVar("Content")


def service_of(request: Request) -> Service:
    """The service behind the application."""
    service: Service = request.app.state.service
    return service


def root_of(request: Request) -> str:
    """``root_path`` of a request."""
    return root_path(request.scope)


def accept_of(request: Request) -> str:
    """The Accept header; empty = there is none."""
    return ", ".join(request.headers.getlist("accept"))


def rendering_of(request: Request, options: RenderingOptions) -> Rendering:
    """How the images of this request are to be returned.

    Raises:
        NotAcceptableError: Accept allows none of the image types.
    """
    return options.rendering(accept_of(request))


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
    if choose(accept_of(request), (JSON, HTML)) == HTML:
        return HTMLResponse(as_page(content, root_of(request)), headers=headers)
    return JSONResponse(jsonable_encoder(content), headers=headers)
