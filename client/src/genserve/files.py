"""Writing files: complete or not at all, and by one process at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EBUSY
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to an OSError that lacks one, as that of a full disk does."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_atomically(path: Path, body: bytes) -> None:
    """Write a file; what was there before stays until the new file is complete.

    Raises:
        OSError: it cannot be written, and nothing has changed.
    """
    target = path.resolve()  # a symbolic link stays one
    if target.exists() and (not target.is_file() or not os.access(target.parent, os.W_OK)):
        with naming(path):
            target.write_bytes(
                body
            )  # a pipe or a device; of a folder the error says that it is one
        return
    temporary = target.with_name(f".{target.name[:50]}.{os.getpid()}")
    try:
        temporary.write_bytes(body)
        temporary.replace(target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


def open_exclusively(path: Path, min_size: int) -> BinaryIO:
    """Open a file for reading and writing, locked against other calls of this function.

    Args:
        path: The file; created if missing and ``min_size`` is 0.
        min_size: Bytes that it has to hold.

    Raises:
        OSError: another process has it open or has just renamed it, or it cannot be written.
    """
    flags = os.O_RDWR | getattr(os, "O_BINARY", 0) | (0 if min_size else os.O_CREAT)
    busy = OSError(EBUSY, "another download writes it, or has just finished", str(path))
    try:
        file = os.fdopen(os.open(path, flags, 0o666), "r+b")
    except FileNotFoundError:
        if min_size:
            raise busy from None
        raise  # the folder is missing
    if _lock(file) and path.exists():
        opened = os.fstat(file.fileno())
        if os.path.samestat(opened, path.stat()) and opened.st_size >= min_size:
            return file
    file.close()
    raise busy


def _lock(file: BinaryIO) -> bool:
    """Lock it until it is closed; False = another process holds the lock."""
    if fcntl:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
    return True
