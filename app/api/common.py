"""What the endpoints have in common: formats, tags, uploads."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import HTMLResponse, JSONResponse

from app.api.bodies.pictures import read_pictures
from app.batching.ticket import Timing
from app.core.service import Service
from app.engines.store import StoredModel
from app.formats.media_types import FORMATS, HTML, JSON, WEBP
from app.formats.pixels import Image
from app.formats.uploads import Fitting, Upload, read_upload
from app.http.middleware import is_head
from app.http.negotiation import choose
from app.rendering.caching import etag_matches
from app.rendering.lineage import ResponseMetadata
from app.rendering.options import ANIMATION, OFFERS, Rendering
from app.rendering.responses import headers_only, images_response
from app.settings import Settings

Endpoint = Callable[..., Awaitable[Any]]

CODERS = CapacityLimiter(2)  # threads that read and write pictures
Content = TypeVar("Content")


def service_of(request: Request) -> Service:
    """What answers."""
    service: Service = request.app.state.service
    return service


def media_for(request: Request, format: str | None, offers: Sequence[str] = OFFERS) -> str:
    """The type of the answer: the parameter's, else what Accept likes best.

    Raises:
        NotAcceptableError
    """
    if format:
        return FORMATS[format]
    return choose(", ".join(request.headers.getlist("accept")), offers)


def known_already(request: Request, lineage: ResponseMetadata, media: str) -> Response | None:
    """The answer where the tag says all: to HEAD, and to who has these images already."""
    if lineage.etag is None or request.method != "GET":
        return None
    tags = request.headers.getlist("if-none-match")
    if tags and etag_matches(", ".join(tags), lineage.etag):
        return headers_only(media, lineage, 304)
    return headers_only(media, lineage, 200) if is_head(request.scope) else None


async def rendered(
    rendering: Rendering, images: Sequence[Image], lineage: ResponseMetadata, timing: Timing
) -> Response:
    """The reply; WebP and films, which take long to find few bytes, are made off the event loop."""
    if rendering.media != WEBP and rendering.layout != ANIMATION:
        return images_response(rendering, images, lineage, timing)
    return await to_thread.run_sync(
        images_response, rendering, images, lineage, timing, limiter=CODERS
    )


async def uploaded(
    request: Request, model: StoredModel, how: Fitting, settings: Settings
) -> list[Upload]:
    """The pictures of a request's body, as the model takes them.

    Raises:
        ServiceError: 400, 413, 415 or 422, by what is wrong.
    """
    files = await read_pictures(request, settings.max_body_bytes, settings.max_n)
    return await decoded(files, model, how, settings)


async def decoded(
    files: Sequence[bytes], model: StoredModel, how: Fitting, settings: Settings
) -> list[Upload]:
    """Files as the model takes them; together they have as many pixels as one may.

    Raises:
        ServiceError: 413 or 422, by what is wrong.
    """
    if not files:
        return []
    shape, max_pixels = model.network.image_shape, settings.max_pixels // len(files)
    # Decoding takes up to half a second of C code and a hundred megabytes: not on the event loop,
    # and few at a time.
    return [
        await to_thread.run_sync(read_upload, f, shape, max_pixels, how, limiter=CODERS)
        for f in files
    ]


def document(request: Request, found: Content, as_page: Callable[[Content], str]) -> Any:
    """A document as JSON, or as a page for who would rather read HTML."""
    headers = {"Vary": "Accept"}
    if media_for(request, None, (JSON, HTML)) == HTML:
        return HTMLResponse(as_page(found), headers=headers)
    return JSONResponse(jsonable_encoder(found), headers=headers)
