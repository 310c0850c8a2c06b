"""``aliases.txt`` in the store: other names of models.

One a line, ``default -> mnist-cgan-v7``; ``#`` begins a comment. ``default`` is the model of
requests that name none, ``encoder`` that of pictures and latents; all others are names that clients
may use. Pointing one at another checkpoint promotes that, or rolls it back.
"""

import os
import re
import stat
from pathlib import Path

from app.errors import StartupError
from training.networks.header import NAME

ALIASES = "aliases.txt"
_MAX_BYTES = 65536
_LINE = re.compile(r"(\S+)\s*->\s*(\S+)")


def read_aliases(folder: Path) -> dict[str, str]:
    """The model's name by alias; empty if the store has no such file.

    Raises:
        StartupError: the file cannot be read, or a line is none; the message says which.
    """
    path = folder / ALIASES
    try:
        # Not through a link, and without waiting for the other end of a FIFO.
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(opened, "rb") as file:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise StartupError(f"{path} is no regular file")
            text = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}") from error
    if len(text) > _MAX_BYTES:
        raise StartupError(f"{path} has over {_MAX_BYTES} bytes")
    aliases: dict[str, str] = {}
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        found = _LINE.fullmatch(line)
        if found is None or not (NAME.fullmatch(found[1]) and NAME.fullmatch(found[2])):
            raise StartupError(
                f"{path}, line {number}, is no alias such as: default -> mnist-cgan-v7"
            )
        if found[1] in aliases:
            raise StartupError(f"{path}, line {number}: {found[1]} is there twice")
        aliases[found[1]] = found[2]
    return aliases
