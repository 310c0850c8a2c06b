"""Uploaded pictures: raw, in a form, or in JSON."""

from starlette.requests import Request

from app.api.bodies.forms import MULTIPART, form_file
from app.api.bodies.json_values import from_base64, only_list
from app.api.bodies.raw import media_type, read_body
from app.core.pictures import Pictures
from app.core.requests import RequestContext
from app.formats.media_types import JSON, PNG, WEBP
from app.formats.reading.uploads import READABLE

PICTURE_TYPES = (*READABLE, MULTIPART, JSON)
FILE_TYPES = (PNG, WEBP, MULTIPART)


async def read_pictures(
    request: Request, limit: int, max_n: int, codec: Pictures, context: RequestContext
) -> list[bytes]:
    """Uploaded picture files: one raw or in a form's field ``file``, or several in JSON.

    Args:
        request: Its body has not been read.
        limit: Bytes of the body.
        max_n: Pictures at most.
        codec: Parses a large body.
        context: From ``Service.track_request``.

    Raises:
        ServiceError: 400, 413, 415 or 422, depending on what is wrong.
    """
    media = media_type(request, PICTURE_TYPES)
    body = await read_body(request, limit)
    if media == MULTIPART:
        return [await form_file(request, body)]
    if media != JSON:
        return [body]
    pictures = only_list(await codec.parse_json(body, context), "images", max_n)
    return [from_base64(text, f"/images/{index}") for index, text in enumerate(pictures)]


async def read_file(request: Request, limit: int) -> bytes:
    """A PNG or WebP file, raw or in a form's field ``file``.

    Raises:
        ServiceError: 400, 413, 415 or 422, depending on what is wrong.
    """
    media = media_type(request, FILE_TYPES)
    body = await read_body(request, limit)
    return await form_file(request, body) if media == MULTIPART else body
