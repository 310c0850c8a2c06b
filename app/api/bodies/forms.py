"""Files of a multipart form."""

from collections.abc import AsyncGenerator
from email.message import Message

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from app.errors import (
    InvalidParameterError,
    MalformedBodyError,
)

MULTIPART = "multipart/form-data"
FIELD = "file"  # name of the form's field


async def form_file(request: Request, body: bytes) -> bytes:
    """The one file of a form, in a field named ``file``."""
    return (await form_files(request, body, 1, 1))[0]


async def form_files(request: Request, body: bytes, least: int, most: int) -> list[bytes]:
    """The ``least`` to ``most`` files of a form in order, all in fields named ``file``."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield body

    message = Message()
    message["content-type"] = request.headers["content-type"]
    if not message.get_param("boundary"):
        raise MalformedBodyError("the form's Content-Type names no boundary")
    parser = MultiPartParser(request.headers, chunks(), max_files=most + 1, max_fields=2)
    parser.spool_max_size = len(body) + 1  # so that no file is written to disk
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
            expected = "one file" if most == 1 else f"{least} to {most} files"
            raise InvalidParameterError(
                f"the form has {len(parts)} parts; it must have {expected}, in a field named "
                f"{FIELD!r}, as curl -F {FIELD}=@seven.png sends it"
            )
        return [await file.read() for file in files]
    finally:
        await form.close()
        for file in parser._files_to_close_on_error:  # files of a truncated form too
            file.close()
