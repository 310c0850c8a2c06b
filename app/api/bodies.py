"""Reads a request's body: a limit in bytes, a Content-Type, and a parser that trusts nothing."""

import base64
import binascii
import zlib
from collections.abc import AsyncGenerator, Collection
from email.message import Message
from io import BytesIO
from typing import Any, NoReturn

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from app.engines.engine import Latent
from app.errors import (
    BodyTooLargeError,
    InvalidParameterError,
    MalformedBodyError,
    UnsupportedMediaTypeError,
    shown,
)
from app.formats import strict_json
from app.formats.media_types import JSON, NPY, PNG, WEBP
from app.formats.uploads import READABLE
from app.rendering.schemas import MAX_ENDS
from app.seeds import MAX_SEED

End = int | Latent | bytes  # a seed, a latent, a picture's file

MULTIPART = "multipart/form-data"
FIELD = "file"  # of a form
MAX_LATENT = 1000  # beyond any draw from the prior; keeps every activation finite
PICTURE_TYPES = (*READABLE, MULTIPART, JSON)
FILE_TYPES = (PNG, WEBP, MULTIPART)
LATENT_TYPES = (JSON, NPY)
END_TYPES = (JSON, MULTIPART)
CODINGS = {"gzip": 31, "deflate": 15}  # of a body, by zlib's wbits; deflate is zlib's (RFC 9110)


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


async def read(request: Request, limit: int) -> bytes:
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


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise InvalidParameterError(
        f"the body does not fit: {pointer}: {detail}",
        errors=[{"pointer": pointer, "detail": detail}],
    )


def _only_list(value: Any, key: str, max_n: int, least: int = 1) -> list[Any]:
    """The list in ``{key: [...]}``.

    Checked by hand, and stopping at the first fault: a validator that collects faults takes
    seconds and gigabytes for a body made of nothing else.
    """
    if not isinstance(value, dict) or key not in value:
        _refuse("/", f"must be an object with a list named {key!r}")
    if len(value) > 1:
        other = next(name for name in value if name != key)
        _refuse(f"/{shown(other)[1:-1]}", f"unknown; the object has {key!r} alone")
    rows = value[key]
    if not isinstance(rows, list):
        _refuse(f"/{key}", "must be a list")
    _check_count(len(rows), max_n, f"/{key}", least)
    return rows


async def read_pictures(request: Request, limit: int, max_n: int) -> list[bytes]:
    """The files of an upload: one raw or as a form's field ``file``, or some in JSON.

    Raises:
        ServiceError: 400, 413, 415 or 422, by what is wrong.
    """
    media = media_type(request, PICTURE_TYPES)
    body = await read(request, limit)
    if media == MULTIPART:
        return [await _form_file(request, body)]
    if media != JSON:
        return [body]
    # A body of megabytes takes a while to parse: not on the event loop.
    pictures = _only_list(await run_in_threadpool(strict_json.parse, body), "images", max_n)
    return [_from_base64(text, f"/images/{index}") for index, text in enumerate(pictures)]


def has_body(request: Request) -> bool:
    """Whether the request brings a body."""
    length = request.headers.get("content-length", "0")
    return length != "0" or "transfer-encoding" in request.headers


async def read_ends(request: Request, limit: int) -> list[End]:
    """The ends of a path: ``{"ends": [{"seed": 3}, {"z": [...]}, {"image": base64}]}``, or a form
    with a file for each, all in a field named ``file``.

    Raises:
        ServiceError: 400, 413, 415 or 422, by what is wrong.
    """
    media = media_type(request, END_TYPES)
    body = await read(request, limit)
    if media == MULTIPART:
        return list(await _form_files(request, body, 2, MAX_ENDS))
    parsed = await run_in_threadpool(strict_json.parse, body)
    ends = _only_list(parsed, "ends", MAX_ENDS, least=2)
    return [_end(end, f"/ends/{index}") for index, end in enumerate(ends)]


async def read_end(request: Request, limit: int) -> End:
    """One latent, seed or picture: a raw picture, a form's field ``file``, or JSON, which is
    ``{"z": [...]}``, ``{"image": base64}`` or ``{"seed": 3}``.

    Raises:
        ServiceError: 400, 413, 415 or 422, by what is wrong.
    """
    media = media_type(request, PICTURE_TYPES)
    body = await read(request, limit)
    if media == MULTIPART:
        return await _form_file(request, body)
    if media != JSON:
        return body
    return _end(await run_in_threadpool(strict_json.parse, body), "")


def _end(value: Any, pointer: str) -> End:
    if not isinstance(value, dict) or len(value) != 1 or not value.keys() <= {"seed", "z", "image"}:
        _refuse(pointer or "/", "must be an object with one of 'seed', 'z' and 'image'")
    if "image" in value:
        return _from_base64(value["image"], f"{pointer}/image")
    if "seed" in value:
        seed = value["seed"]
        if type(seed) is not int or not 0 <= seed <= MAX_SEED:
            _refuse(f"{pointer}/seed", f"must be a whole number, 0 to {MAX_SEED}")
        return seed
    return _latent(value["z"], f"{pointer}/z")


def _latent(row: Any, pointer: str) -> Latent:
    """(Z,) float32, of whatever length."""
    if not isinstance(row, list) or not row:
        _refuse(pointer, "must be a list of numbers, the model's latent")
    for place, number in enumerate(row):
        # Written so that a NaN fails it too.
        if type(number) not in (int, float) or not -MAX_LATENT <= number <= MAX_LATENT:
            _refuse(f"{pointer}/{place}", f"must be a number, -{MAX_LATENT} to {MAX_LATENT}")
    return np.array(row, dtype=np.float32)


async def read_file(request: Request, limit: int) -> bytes:
    """A PNG or WebP, raw or as a form's field ``file``.

    Raises:
        ServiceError: 400, 413, 415 or 422, by what is wrong.
    """
    media = media_type(request, FILE_TYPES)
    body = await read(request, limit)
    return await _form_file(request, body) if media == MULTIPART else body


def _from_base64(text: Any, pointer: str) -> bytes:
    if not isinstance(text, str):
        _refuse(pointer, "must be a string")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        _refuse(pointer, "must be base64")


async def _form_file(request: Request, body: bytes) -> bytes:
    return (await _form_files(request, body, 1, 1))[0]


async def _form_files(request: Request, body: bytes, least: int, most: int) -> list[bytes]:
    """The files of a form, all in fields named ``file``, in their order."""

    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    message = Message()
    message["content-type"] = request.headers["content-type"]
    if not message.get_param("boundary"):
        raise MalformedBodyError("the form's Content-Type names no boundary")
    parser = MultiPartParser(request.headers, once(), max_files=most + 1, max_fields=2)
    parser.spool_max_size = len(body) + 1  # a larger file would be written to the disk
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise MalformedBodyError("the body is not a whole multipart form of files") from error
    try:
        parts = form.multi_items()
        if not parts:
            raise MalformedBodyError("the body is not a whole multipart form of files")
        files = [part for name, part in parts if name == FIELD and isinstance(part, UploadFile)]
        if len(files) != len(parts) or not least <= len(files) <= most:
            wanted = "one file" if most == 1 else f"{least} to {most} files"
            raise InvalidParameterError(
                f"the form has {len(parts)} parts; it must have {wanted}, in a field named "
                f"{FIELD!r}, as curl -F {FIELD}=@seven.png sends it"
            )
        return [await file.read() for file in files]
    finally:
        await form.close()
        for file in parser._files_to_close_on_error:  # also those of a form without an end
            file.close()


async def read_latents(request: Request, limit: int, latent_dim: int, max_n: int) -> list[Latent]:
    """Latents of a model with ``latent_dim`` dimensions, from JSON or npy.

    Raises:
        ServiceError: 400, 413, 415 or 422, by what is wrong.
    """
    media = media_type(request, LATENT_TYPES)
    # 32 characters a number are more than any float takes.
    body = await read(request, min(limit, 1000 + 32 * latent_dim * max_n))
    if media == NPY:
        return list(_npy(body, latent_dim, max_n))
    rows = _only_list(strict_json.parse(body), "z", max_n)
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != latent_dim:
            _refuse(f"/z/{index}", f"must be a list of {latent_dim} numbers, this model's latent")
    return [_latent(row, f"/z/{index}") for index, row in enumerate(rows)]


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
    _check_count(shape[0], max_n, "/")
    data = body[stream.tell() :]
    if len(data) != 4 * shape[0] * shape[1]:
        raise MalformedBodyError(f"{len(data)} bytes of data are not an array of {shown(shape)}")
    array = np.frombuffer(data, dtype="<f4").reshape(shape)
    # Written so that a NaN fails it too.
    if not bool((np.abs(array) <= MAX_LATENT).all()):
        raise InvalidParameterError(f"the array has values outside -{MAX_LATENT} to {MAX_LATENT}")
    return array


def _check_count(count: int, max_n: int, pointer: str, least: int = 1) -> None:
    if not least <= count <= max_n:
        raise InvalidParameterError(
            f"{count} in one request; allowed: {least} to {max_n}",
            errors=[{"pointer": pointer, "detail": f"{least} to {max_n}"}],
        )
