"""Latent sources, from which /interpolate and /traverse start: seeds, latents and pictures."""

from typing import Any

from starlette.requests import Request

from app.api.bodies.forms import MULTIPART, form_file, form_files
from app.api.bodies.json_values import from_base64, only_list, refuse
from app.api.bodies.latents import parse_latent
from app.api.bodies.pictures import PICTURE_TYPES
from app.api.bodies.raw import media_type, read_body
from app.core.latent_walk import LatentSource
from app.core.pictures import Pictures
from app.core.requests import RequestContext
from app.formats.media_types import JSON
from app.rendering.schemas import MAX_ENDS
from app.seeds import MAX_SEED

_ENDS_TYPES = (JSON, MULTIPART)


async def read_sources(
    request: Request, limit: int, codec: Pictures, context: RequestContext
) -> list[LatentSource]:
    """The ends of a path: ``{"ends": [{"seed": 3}, {"z": [...]}, {"image": base64}]}``, or a form
    with a picture file for each, all in fields named ``file``. Arguments as in ``read_pictures``.

    Raises:
        ServiceError: 400, 413, 415 or 422, depending on what is wrong.
    """
    media = media_type(request, _ENDS_TYPES)
    body = await read_body(request, limit)
    if media == MULTIPART:
        return list(await form_files(request, body, 2, MAX_ENDS))
    parsed = await codec.parse_json(body, context)
    ends = only_list(parsed, "ends", MAX_ENDS, least=2)
    return [_source(end, f"/ends/{index}") for index, end in enumerate(ends)]


async def read_source(
    request: Request, limit: int, codec: Pictures, context: RequestContext
) -> LatentSource:
    """One source: a raw picture, a form's field ``file``, or JSON: ``{"z": [...]}``,
    ``{"image": base64}`` or ``{"seed": 3}``. Arguments as in ``read_pictures``.

    Raises:
        ServiceError: 400, 413, 415 or 422, depending on what is wrong.
    """
    media = media_type(request, PICTURE_TYPES)
    body = await read_body(request, limit)
    if media == MULTIPART:
        return await form_file(request, body)
    if media != JSON:
        return body
    return _source(await codec.parse_json(body, context), "")


def _source(value: Any, pointer: str) -> LatentSource:
    if not isinstance(value, dict) or len(value) != 1 or not value.keys() <= {"seed", "z", "image"}:
        refuse(pointer or "/", "must be an object with one of 'seed', 'z' and 'image'")
    if "image" in value:
        return from_base64(value["image"], f"{pointer}/image")
    if "seed" in value:
        seed = value["seed"]
        if type(seed) is not int or not 0 <= seed <= MAX_SEED:
            refuse(f"{pointer}/seed", f"must be a whole number, 0 to {MAX_SEED}")
        return seed
    return parse_latent(value["z"], f"{pointer}/z")
