"""Files read and written whole, and errors of one line that name the file."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_BYTES = 512 * 2**20  # refuses a mistaken file before reading it into memory


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
    """The bytes of a regular file of at most ``limit`` bytes.

    Raises:
        ValueError: it is not a regular file, or too large. OSError: it cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait forever
        raise ValueError("not a regular file")
    if status.st_size > limit:
        raise ValueError(f"{status.st_size} bytes is over the limit of {limit}")
    return path.read_bytes()


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
