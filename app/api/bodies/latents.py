"""Latents, from JSON or npy."""

from io import BytesIO
from typing import Any

import numpy as np
from starlette.requests import Request

from app.api.bodies.json_values import check_count, only_list, refuse
from app.api.bodies.raw import media_type, read_body
from app.engines.rows import Latent
from app.errors import (
    InvalidParameterError,
    MalformedBodyError,
    shown,
)
from app.formats import strict_json
from app.formats.media_types import JSON, NPY

MAX_LATENT = 1000  # beyond any draw from the prior; keeps every activation finite
LATENT_TYPES = (JSON, NPY)


async def read_latents(request: Request, limit: int, latent_dim: int, max_n: int) -> list[Latent]:
    """Latents of a model with ``latent_dim`` dimensions, from JSON or npy.

    Raises:
        ServiceError: 400, 413, 415 or 422, by what is wrong.
    """
    media = media_type(request, LATENT_TYPES)
    # 32 characters a number are more than any float takes.
    body = await read_body(request, min(limit, 1000 + 32 * latent_dim * max_n))
    if media == NPY:
        return list(_npy(body, latent_dim, max_n))
    rows = only_list(strict_json.parse(body), "z", max_n)
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != latent_dim:
            refuse(f"/z/{index}", f"must be a list of {latent_dim} numbers, this model's latent")
    return [parse_latent(row, f"/z/{index}") for index, row in enumerate(rows)]


def parse_latent(row: Any, pointer: str) -> Latent:
    """(Z,) float32, of whatever length."""
    if not isinstance(row, list) or not row:
        refuse(pointer, "must be a list of numbers, the model's latent")
    for place, number in enumerate(row):
        # Written so that a NaN fails it too.
        if type(number) not in (int, float) or not -MAX_LATENT <= number <= MAX_LATENT:
            refuse(f"{pointer}/{place}", f"must be a number, -{MAX_LATENT} to {MAX_LATENT}")
    return np.array(row, dtype=np.float32)


def _npy(body: bytes, latent_dim: int, max_n: int) -> Latent:
    """(n, Z) float32 from an npy file, whose shape is checked before anything is allocated."""
    stream = BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran_order, dtype = reader(stream, max_header_size=1000)
        if not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError("a side of the shape is no whole number")
    except Exception as error:  # numpy evaluates the header, which fails in many ways
        raise MalformedBodyError("the body is not an npy file of version 1 or 2") from error
    wanted = f"this model reads float32 of shape (n, {latent_dim})"
    if dtype != np.dtype("<f4") or fortran_order:
        raise InvalidParameterError(f"the array is of another type or order; {wanted}, C order")
    if len(shape) != 2 or shape[1] != latent_dim:
        raise InvalidParameterError(f"the array's shape is {shown(shape)}; {wanted}")
    check_count(shape[0], max_n, "/")
    data = body[stream.tell() :]
    if len(data) != 4 * shape[0] * shape[1]:
        raise MalformedBodyError(f"{len(data)} bytes of data are not an array of {shown(shape)}")
    array = np.frombuffer(data, dtype="<f4").reshape(shape)
    # Written so that a NaN fails it too.
    if not bool((np.abs(array) <= MAX_LATENT).all()):
        raise InvalidParameterError(f"the array has values outside -{MAX_LATENT} to {MAX_LATENT}")
    return array
