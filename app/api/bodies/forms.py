"""Files of a multipart form (RFC 2046, section 5.1; RFC 7578).

Taken apart here, since parsers that are fed byte by byte can be made to take a second for a body of
some megabytes. All that is done for each byte is a search for the boundary, in slices between which
other requests have their turn.
"""

import re
from collections.abc import AsyncGenerator

from anyio.lowlevel import checkpoint
from starlette.requests import Request

from app.errors import (
    InvalidParameterError,
    MalformedBodyError,
)

MULTIPART = "multipart/form-data"
FIELD = "file"  # name of the form's field

_SLICE = 2**18  # bytes, of which a search takes under a millisecond
_MAX_HEAD = 8192  # bytes of a part's header lines, or characters of Content-Type
_MAX_PARAMETERS = 16  # of a header
_MAX_BOUNDARY = 70  # characters (RFC 2046)
# A parameter of Content-Type or Content-Disposition (RFC 9110, section 5.6.6). Each piece begins
# where the one before ended, so that the time is linear in the length.
_PARAMETER = re.compile(
    r"[ \t]*+(?:([!#$%&'*+.^_`|~0-9A-Za-z-]++)="
    r'(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"|([^;"]*+)))?+[ \t]*+(?:;|$)'
)
_FOLD = re.compile(rb"\r\n[ \t]+")  # a long line goes on in the next
_DISPOSITION = re.compile(
    rb"(?:^|\r\n)content-disposition:[ \t]*form-data[ \t]*(;.*?)(?:\r\n|$)", re.I
)


async def form_file(request: Request, body: bytes) -> bytes:
    """The one file of a form, in a field named ``file``."""
    return (await form_files(request, body, 1, 1))[0]


async def form_files(request: Request, body: bytes, least: int, most: int) -> list[bytes]:
    """The ``least`` to ``most`` files of a form in order, all in fields named ``file``.

    Raises:
        MalformedBodyError: it is no whole form, or has far more parts.
        InvalidParameterError: it has others.
    """
    boundary = _parameters(request.headers["content-type"]).get("boundary", "")
    if not boundary or len(boundary) > _MAX_BOUNDARY:
        raise MalformedBodyError(
            f"the form's Content-Type names no boundary of 1 to {_MAX_BOUNDARY} characters"
        )
    files, count = [], 0
    async for names, content in _parts(body, b"--" + boundary.encode("latin-1")):
        count += 1
        if count > most + 2:
            raise _malformed()
        if names.get("name") == FIELD and ("filename" in names or "filename*" in names):
            files.append(content)
    if not count:
        raise _malformed()
    if len(files) != count or not least <= count <= most:
        expected = "one file" if most == 1 else f"{least} to {most} files"
        raise InvalidParameterError(
            f"the form has {count} parts; it must have {expected}, in a field named "
            f"{FIELD!r}, as curl -F {FIELD}=@seven.png sends it"
        )
    return files


async def _parts(
    body: bytes, delimiter: bytes
) -> AsyncGenerator[tuple[dict[str, str], bytes], None]:
    """The disposition and content of each part.

    Raises:
        MalformedBodyError: the form is not whole, or a part has no name.
    """
    start = 0 if body.startswith(delimiter) else await _after(body, b"\r\n" + delimiter, 0)
    start += len(delimiter) if not start else 0
    while not body.startswith(b"--", start):
        begin = body.find(b"\r\n", start, start + _MAX_HEAD)
        head_end = body.find(b"\r\n\r\n", begin, start + _MAX_HEAD)
        if begin < 0 or head_end < 0 or body[start:begin].strip(b" \t"):
            raise _malformed()
        head = _FOLD.sub(b" ", body[begin:head_end])
        found = _DISPOSITION.search(head)
        names = _parameters(found[1].decode("latin-1")) if found else {}
        if "name" not in names:
            raise _malformed()
        start = await _after(body, b"\r\n" + delimiter, head_end + 2)
        yield names, body[head_end + 4 : start - len(delimiter) - 2]


async def _after(body: bytes, what: bytes, start: int) -> int:
    """Where the next ``what`` ends.

    Raises:
        MalformedBodyError: there is none.
    """
    for begin in range(start, len(body), _SLICE):
        place = body.find(what, begin, begin + _SLICE + len(what) - 1)
        if place >= 0:
            return place + len(what)
        await checkpoint()
    raise _malformed()


def _parameters(value: str) -> dict[str, str]:
    """The parameters of a header, by name in lower case; of two alike, the first."""
    found: dict[str, str] = {}
    place = value.find(";") + 1
    if place > 0 and len(value) <= _MAX_HEAD:
        for _ in range(_MAX_PARAMETERS):
            match = _PARAMETER.match(value, place)
            if not match:
                break
            place = match.end()
            if match[1]:
                given = match[2] if match[3] is None else match[3].strip(" \t")
                found.setdefault(match[1].lower(), given)
    return found


def _malformed() -> MalformedBodyError:
    return MalformedBodyError("the body is not a whole multipart form of files")
