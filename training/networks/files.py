"""Files read and written whole, and errors of one line that name the file."""

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_BYTES = 512 * 2**20  # refuses a mistaken file before reading it into memory

_NOT_A_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # Windows has neither


class CheckpointError(Exception):
    """The file is not a valid checkpoint of this project; the message names it and the reason."""


@contextlib.contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Turn any exception raised inside into a CheckpointError of one line that names ``path``."""
    try:
        yield
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"{path}: its header lacks {error.args[0]!r}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except Exception as error:  # a hostile file can fail anywhere in a parser
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: {reason[:300]}") from error


def read_regular_file(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes, which is no link.

    What was opened is what is checked, whatever has the name by then.

    Raises:
        ValueError: it is a link, not a regular file, or too large. OSError: it cannot be read.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its other end.
        opened = os.open(path, os.O_RDONLY | _NOT_A_LINK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("it is a link; put the file itself here") from None
        raise
    try:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        with open(opened, "rb", closefd=False) as file:
            data = b"" if status.st_size > limit else file.read(limit + 1)
    finally:
        os.close(opened)
    if status.st_size > limit or len(data) > limit:
        raise ValueError(f"{max(status.st_size, len(data))} bytes is over the limit of {limit}")
    return data


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary name beside ``path``, then rename over it: a reader sees the old file
    or the new one, never a part. Makes the folder if needed.

    Raises:
        OSError: it cannot be written; an old file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
    ) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
