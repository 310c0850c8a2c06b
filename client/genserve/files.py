"""Files to write: whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What the system says of a full disk names no file; now it does."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_whole(path: Path, body: bytes) -> None:
    """Write a file; what was there before stays until all of the new one is.

    Raises:
        OSError: it cannot be written, and nothing has changed.
    """
    place = path.resolve()  # a link stays one
    if place.exists() and (not place.is_file() or not os.access(place.parent, os.W_OK)):
        with naming(path):
            place.write_bytes(body)  # a pipe or a device; a folder says that it is one
        return
    beside = place.with_name(f".{place.name[:50]}.{os.getpid()}")
    try:
        beside.write_bytes(body)
        beside.replace(place)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error
