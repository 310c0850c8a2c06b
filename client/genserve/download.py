"""A dataset's file while it comes: what is there already, and how to ask for the rest.

``digits.zip.part`` holds the bytes that have come and ``digits.zip.part.json`` says of what. A call
with the same parameters goes on there, whatever ended the one before. The rest is asked for by the
address that pins the model, and by the file's tag, so that two files are never spliced. Nothing
here sends anything.
"""

import json
import os
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from errno import EBUSY, EISDIR, ENOENT
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal
from urllib.parse import parse_qs, urlsplit

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from genserve.ask import Metadata
from genserve.errors import AnswerError
from genserve.files import naming

ENDLESS = 2**53 - 1  # "and whatever follows": the length of a ZIP is not known (RFC 8673)
_MEMBER = b"PK\x03\x04"  # what a member of a ZIP begins with
FORMATS = ("zip", "npz")


@dataclass(frozen=True)
class Progress:
    """How far it is."""

    bytes: int
    images: int
    n: int


@dataclass(frozen=True)
class Dataset:
    """A file that has come whole."""

    path: Path
    bytes: int
    model: str
    seed: int
    n: int
    permalink: str  # a GET of it gives the same file


class Part:
    """A file that comes, perhaps in several answers; use it in a with statement.

    Args:
        path: Where it is to be when it is whole.
        query: The parameters of /dataset.
        progress: Called when something has come, and once before.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        query: Mapping[str, str],
        progress: Callable[[Progress], object] | None = None,
    ) -> None:
        self.path = Path(path)
        if self.path.is_dir():  # else all would have come before it cannot be put there
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
        self._part = self.path.with_name(self.path.name + ".part")
        self._note = self.path.with_name(self.path.name + ".part.json")
        self._asked = dict(query)
        self._tell = progress or (lambda _: None)
        self._file: BinaryIO | None = None
        self._tail = b""  # where the beginning of a member may lie across two chunks
        self._members = self._total = 0
        self._begun = self._read_note()
        self.size = self._part.stat().st_size if self._begun.get("etag") else 0

    def _read_note(self) -> dict[str, str]:
        """Of what the bytes are, if they are of what is asked for."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            note = json.loads(self._note.read_text())
            if note["asked"] == self._asked and self._part.is_file():
                return {name: str(note[name]) for name in ("address", "etag", "model")}
        return {}

    def __enter__(self) -> "Part":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk has said so already
                self._file.close()

    @property
    def resumes(self) -> bool:
        """Whether some of it is there."""
        return self.size > 0

    @property
    def address(self) -> str:
        """Path and query of the request."""
        return self._begun["address"] if self.resumes else "/dataset"

    @property
    def query(self) -> dict[str, str] | None:
        """What the address does not have yet. A seed is drawn here, so that the file has a tag from
        the beginning."""
        if self.resumes:
            return None
        return {"seed": str(random.randrange(2**52)), **self._asked}  # noqa: S311  # no secret

    @property
    def headers(self) -> dict[str, str]:
        """Of the request. The last byte is asked for again, so that there is something to send even
        if it was the file's last."""
        told = {"accept-encoding": "identity"}
        if self.resumes:
            told |= {
                "range": f"bytes={self.size - 1}-{ENDLESS}",
                "if-range": self._begun["etag"],
            }
        return told

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """An answer comes: 206 goes on, 200 begins anew.

        Raises:
            AnswerError: it is no dataset of Genserve.
        """
        rest = headers.get("content-range", "")
        try:
            if status == 206:
                start = int(rest.removeprefix("bytes ").partition("-")[0])
                if start != self.size - 1:
                    raise ValueError(f"Content-Range is {rest!r}, not from {self.size - 1} on")
                total = rest.rpartition("/")[2]
            else:
                start, total = 0, headers.get("content-length", "*")
                self._begun = {
                    "address": headers["content-location"],
                    "etag": headers.get("etag", ""),
                    "model": headers["x-model"],
                }
            self._total = int(total) if total.isdecimal() else 0
            self._n = int(self._told("n"))
        except (KeyError, ValueError) as error:
            raise AnswerError(f"the answer is no dataset of Genserve: {error}") from error
        if self._file is None:
            self._file = _alone(self._part, self.size if start else 0)
        if not start:  # a part without this is of no use, so it comes first
            note = {"asked": self._asked, **self._begun}
            with naming(self._note):
                self._note.write_text(json.dumps(note, indent=1) + "\n")
        self._count_up_to(start)
        self._file.seek(start)
        self._file.truncate()
        self.size = start
        self._tell(self._progress)

    def write(self, chunk: bytes) -> None:
        """Some of it has come."""
        assert self._file is not None
        with naming(self._part):
            self._file.write(chunk)
        self.size += len(chunk)
        self._count(chunk)
        self._tell(self._progress)

    def cut(self) -> None:
        """The answer was cut. What has no tag cannot be gone on with."""
        if not self._begun.get("etag"):
            self.size = 0

    def finish(self) -> Dataset:
        """It is whole.

        Raises:
            AnswerError: it is not, though the answer ended well.
        """
        assert self._file is not None
        with naming(self._part):
            self._file.flush()
        if self._total and self.size != self._total:
            raise AnswerError(f"{self._part} has {self.size} bytes; announced are {self._total}")
        # Locked until it has its name, but Windows renames no open file.
        if os.name == "nt":
            self._file.close()
        self._part.replace(self.path)
        self._note.unlink(missing_ok=True)
        self._file.close()
        seed, address = int(self._told("seed")), self._begun["address"]
        return Dataset(self.path, self.size, self._begun["model"], seed, self._n, address)

    def _told(self, name: str) -> str:
        """A parameter as the address has it."""
        return parse_qs(urlsplit(self._begun["address"]).query)[name][0]

    @property
    def _progress(self) -> Progress:
        if self._total:
            done = self._n * self.size // self._total
        else:
            done = min(max(self._members - 1, 0), self._n)  # the last may not be whole
        return Progress(self.size, done, self._n)

    def _count_up_to(self, size: int) -> None:
        """Count the members in the file's first ``size`` bytes."""
        assert self._file is not None
        self._members, self._tail = 0, b""
        self._file.seek(0)
        while size and (chunk := self._file.read(min(size, 2**20))):
            self._count(chunk)
            size -= len(chunk)

    def _count(self, chunk: bytes) -> None:
        """For progress alone, so that a picture's pixels may spell the mark by chance."""
        if self._asked["format"] == "zip":
            seen = self._tail + chunk
            self._members += seen.count(_MEMBER)
            self._tail = seen[-len(_MEMBER) + 1 :]


def _alone(path: Path, size: int) -> BinaryIO:
    """A file to read and write that no other call of this kind has open.

    Args:
        path: The file; made if need be, where nothing of it is wanted.
        size: Bytes of it that are wanted.

    Raises:
        OSError: another has it open or has just finished it, or it cannot be written.
    """
    flags = os.O_RDWR | getattr(os, "O_BINARY", 0) | (0 if size else os.O_CREAT)
    taken = OSError(EBUSY, "another download writes it, or has just ended", str(path))
    try:
        file = os.fdopen(os.open(path, flags, 0o666), "r+b")
    except FileNotFoundError:
        raise taken if size else FileNotFoundError(ENOENT, os.strerror(ENOENT), str(path)) from None
    if _locked(file) and path.exists():
        found = os.fstat(file.fileno())
        if os.path.samestat(found, path.stat()) and found.st_size >= size:
            return file
    file.close()
    raise taken


def _locked(file: BinaryIO) -> bool:
    """Lock it, until it is closed; false = another has."""
    if fcntl:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
    return True


def dataset(
    path: str | PathLike[str],
    *,
    n: int | None = None,
    label: str | int | None = None,
    model: str | None = None,
    seed: int | None = None,
    metadata: Metadata | None = None,
    format: Literal["zip", "npz"] | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> Part:
    """Any number of labelled images as one file, written while it comes.

    What a call leaves behind that was interrupted, in ``path.part``, the next with the same
    arguments goes on with: the file is the same, byte by byte. It takes a model whose grade is
    exact; with another the file begins anew.

    Args:
        path: Of the file, .zip or .npz.
        n: Images, 1000 if left out.
        label: Of all; every class as often if left out.
        model: As for ``generate``.
        seed: Image i has seed + i; drawn if left out.
        metadata: What a PNG says of itself.
        format: If the path's suffix does not tell.
        progress: Called with what has come.

    Raises:
        OSError: the file cannot be written.
        ValueError: neither path nor format tells which format.
    """
    form = format or Path(path).suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise ValueError(f"{str(path)!r} is no name for a dataset: allowed are .zip and .npz")
    given = {"model": model, "label": label, "n": n, "seed": seed, "metadata": metadata}
    query = {name: str(value) for name, value in given.items() if value is not None}
    return Part(path, query | {"format": form}, progress)
