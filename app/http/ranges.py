"""Range requests for the rest of a file, to resume a download (RFC 9110, section 14)."""

import re
from typing import NamedTuple

from app.errors import RangeNotSatisfiableError

# A last position from here on means "to the end", of a file whose length is not known (RFC 8673).
ENDLESS = 2**53 - 1
_TO_THE_END = re.compile(r"bytes=([0-9]{1,16})-([0-9]{0,16})")


class Rest(NamedTuple):
    """The part of a file to send."""

    skip: int  # bytes before the part
    content_range: str


def requested_rest(
    range_header: str | None, if_range: str | None, etag: str, length: int | None
) -> Rest | None:
    """The rest of the file, if the request asks for it; None = send the whole file.

    Only a range to the file's end is supported. Any other range gets the whole file, and so does
    one for another version of the file.

    Args:
        range_header: Range.
        if_range: If-Range: the ETag of the file whose beginning the client has.
        etag: Of this file.
        length: In bytes. None = not known; then the client has to give a last position of at least
            ENDLESS, which says that it understands a response without one.

    Raises:
        RangeNotSatisfiableError: the file ends before the range begins.
    """
    match = _TO_THE_END.fullmatch(range_header or "")
    if match is None or (if_range is not None and if_range.strip() != etag):
        return None
    first, last = int(match[1]), int(match[2]) if match[2] else None
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
