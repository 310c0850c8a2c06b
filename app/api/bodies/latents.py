"""Latents, from JSON or npy."""

from io import BytesIO
from typing import Any

import numpy as np
from starlette.requests import Request

from app.api.bodies.json_values import check_count, only_list, refuse
from app.api.bodies.raw import media_type, read_body
from app.core.pictures import Pictures
from app.core.requests import RequestContext
from app.engines.rows import Latent
from app.errors import (
    InvalidParameterError,
    MalformedBodyError,
    shown,
)
from app.formats.media_types import JSON, NPY

MAX_LATENT = 1000  # far beyond the prior, but every activation stays finite
LATENT_TYPES = (JSON, NPY)


async def read_latents(
    request: Request,
    limit: int,
    latent_dim: int,
    max_n: int,
    codec: Pictures,
    context: RequestContext,
) -> list[Latent]:
    """Latents of a model with ``latent_dim`` dimensions, from JSON or npy.

    Args:
        request: Its body has not been read.
        limit: Bytes of the body.
        latent_dim: Of the model.
        max_n: Latents at most.
        codec: Parses a large body.
        context: From ``Service.track_request``.

    Raises:
        ServiceError: 400, 413, 415 or 422, depending on what is wrong.
    """
    media = media_type(request, LATENT_TYPES)
    # No float needs 32 characters.
    body = await read_body(request, min(limit, 1000 + 32 * latent_dim * max_n))
    if media == NPY:
        return list(_npy(body, latent_dim, max_n))
    rows = only_list(await codec.parse_json(body, context), "z", max_n)
    for index, row in enumerate(rows):
        if not isinstance(row, list | np.ndarray) or len(row) != latent_dim:
            refuse(f"/z/{index}", f"must be a list of {latent_dim} numbers, this model's latent")
    return [parse_latent(row, f"/z/{index}") for index, row in enumerate(rows)]


def parse_latent(row: Any, pointer: str) -> Latent:
    """A latent (Z,) float32 of a row of ``compact_json``; Z is not checked."""
    if not isinstance(row, list | np.ndarray) or not len(row):
        refuse(pointer, "must be a list of numbers, the model's latent")
    if isinstance(row, list):  # not numbers alone, or one too large for an array
        fit: Any = [type(one) in (int, float) and -MAX_LATENT <= one <= MAX_LATENT for one in row]
    elif row.ndim > 1:
        fit = [False]
    else:
        fit = (row >= -MAX_LATENT) & (row <= MAX_LATENT)
    if not bool(np.all(fit)):
        place = int(np.argmin(fit))
        refuse(f"{pointer}/{place}", f"must be a number, -{MAX_LATENT} to {MAX_LATENT}")
    return np.array(row, dtype=np.float32)


def _npy(body: bytes, latent_dim: int, max_n: int) -> Latent:
    """Latents (n, Z) float32 from an npy file; its shape is checked before allocating."""
    stream = BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran_order, dtype = reader(stream, max_header_size=1000)
        if not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError("the shape has a side that is not a whole number")
    except Exception as error:  # numpy evaluates the header: anything can fail
        raise MalformedBodyError("the body is not an npy file of version 1 or 2") from error
    expected = f"this model reads float32 of shape (n, {latent_dim})"
    if dtype != np.dtype("<f4") or fortran_order:
        raise InvalidParameterError(f"the array has another dtype or order; {expected} in C order")
    if len(shape) != 2 or shape[1] != latent_dim:
        raise InvalidParameterError(f"the array's shape is {shown(shape)}; {expected}")
    check_count(shape[0], max_n, "/")
    data = body[stream.tell() :]
    if len(data) != 4 * shape[0] * shape[1]:
        raise MalformedBodyError(f"{len(data)} bytes of data are not an array of {shown(shape)}")
    array = np.frombuffer(data, dtype="<f4").reshape(shape)
    # In this form a NaN fails the check too.
    if not bool((np.abs(array) <= MAX_LATENT).all()):
        raise InvalidParameterError(f"the array has values outside -{MAX_LATENT} to {MAX_LATENT}")
    return array
