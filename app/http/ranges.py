"""The rest of a file, for who has its beginning (RFC 9110, section 14)."""

import re
from typing import NamedTuple

from app.errors import RangeNotSatisfiableError

# A last position from which on a client says by it that it takes whatever comes, to the end of a
# file whose length is not known (RFC 8673).
ENDLESS = 2**53 - 1
_TO_THE_END = re.compile(r"bytes=([0-9]{1,16})-([0-9]{0,16})")


class Rest(NamedTuple):
    """What of a file is to be sent."""

    skip: int  # bytes before it
    content_range: str


def rest_asked(
    asked: str | None, if_range: str | None, etag: str, length: int | None
) -> Rest | None:
    """The rest of the file that a request asks for, if it does.

    Only what goes to the file's end is read: all else is answered with the whole file, as is a
    request for the rest of another file than this one.

    Args:
        asked: The header Range.
        if_range: The header If-Range: the tag of the file of which the client has the beginning.
        etag: The tag of this file.
        length: Its bytes. None = not known; then a client has to say, by a last position of ENDLESS
            or above, that it can do with an answer that does not tell its last position.

    Raises:
        RangeNotSatisfiableError: the file ends before the rest begins.
    """
    found = _TO_THE_END.fullmatch(asked or "")
    if found is None or (if_range is not None and if_range.strip() != etag):
        return None
    first, last = int(found[1]), int(found[2]) if found[2] else None
    if last is not None and last < first:
        return None
    if length is None:
        if last is None or last < ENDLESS:
            return None
        return Rest(first, f"bytes {first}-{last}/*")
    if first >= length:
        raise RangeNotSatisfiableError.at(first, length)
    if last is not None and last < length - 1:
        return None
    return Rest(first, f"bytes {first}-{length - 1}/{length}")
