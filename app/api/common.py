"""Steps that several endpoints share: negotiation, uploads, cached and rendered responses."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import HTMLResponse, JSONResponse

from app.api.parameters.declared import RenderingOptions
from app.batching.ticket import Timing
from app.core.service import Service
from app.engines.store import StoredModel
from app.fitting.adapt import Fitting
from app.formats.media_types import FORMATS, HTML, JSON, WEBP
from app.formats.pixels import Image
from app.formats.uploads import Upload, read_upload
from app.http.access import root_path
from app.http.middleware import is_head
from app.http.negotiation import choose
from app.rendering.caching import etag_matches
from app.rendering.lineage import ResponseMetadata
from app.rendering.options import ANIMATION, OFFERS, Rendering
from app.rendering.responses import headers_only, images_response
from app.settings import Settings

Endpoint = Callable[..., Awaitable[Any]]

CODECS = CapacityLimiter(2)  # threads that decode and encode images
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
    rendering: Rendering, images: Sequence[Image], metadata: ResponseMetadata, timing: Timing
) -> Response:
    """The response with the images.

    WebP and animations are encoded in a thread, because their compression is slow.
    """
    if rendering.media != WEBP and rendering.layout != ANIMATION:
        return images_response(rendering, images, metadata, timing)
    return await to_thread.run_sync(
        images_response, rendering, images, metadata, timing, limiter=CODECS
    )


async def decode_uploads(
    files: Sequence[bytes], model: StoredModel, fitting: Fitting, settings: Settings
) -> list[Upload]:
    """Decode uploaded files and adapt them to the model's input.

    ``settings.max_pixels`` is shared by all of them.

    Raises:
        ServiceError: 413 or 422, depending on what is wrong.
    """
    if not files:
        return []
    shape, max_pixels = model.network.image_shape, settings.max_pixels // len(files)
    # Decoding takes up to half a second of C code and 100 MB: in a thread, and few at a time.
    return [
        await to_thread.run_sync(read_upload, file, shape, max_pixels, fitting, limiter=CODECS)
        for file in files
    ]


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
