"""State of a dataset's download: what has arrived, and which request gets the rest.

``digits.zip.part`` holds the bytes that have arrived; ``digits.zip.part.json`` says of which file.
A call with the same parameters resumes there, whatever ended the one before. The rest is requested
by the address that pins the model, and by the file's ETag, so two files are never spliced. Nothing
here sends anything.
"""

import json
import os
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from errno import EISDIR
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import BinaryIO, Literal
from urllib.parse import parse_qs, urlsplit

from genserve.calls import Metadata
from genserve.dataset import Dataset
from genserve.errors import InvalidResponseError
from genserve.files import naming, open_exclusively

# Last byte of a range whose end is unknown, as a ZIP's is before it is made (RFC 8673).
LAST_BYTE_UNKNOWN = 2**53 - 1
DATASET_FORMATS = ("zip", "npz")
SPLITS = ("train", "validation", "test")
_ZIP_MEMBER = b"PK\x03\x04"  # first bytes of each member


@dataclass(frozen=True)
class Progress:
    """How much has arrived."""

    bytes: int
    images: int  # 0 until a compressed .npz is complete: it does not say its length
    n: int  # images in all


class Download:
    """A file that arrives, perhaps in several responses. Use it in a with statement.

    Args:
        path: Where the complete file goes.
        query: The parameters of /dataset.
        progress: Called when some of it has arrived, and once before.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        query: Mapping[str, str],
        progress: Callable[[Progress], object] | None = None,
    ) -> None:
        self.path = Path(path)
        if self.path.is_dir():  # renaming the complete file would fail only at the end
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
        self._part = self.path.with_name(self.path.name + ".part")
        self._note = self.path.with_name(self.path.name + ".part.json")
        self._query = dict(query)
        self._report = progress or (lambda _: None)
        self._file: BinaryIO | None = None
        self._tail = b""  # where a member's first bytes may lie across two chunks
        self._members = self._total = self._n = 0
        self._begun = self._read_note()
        self.size = self._part.stat().st_size if self._begun.get("etag") else 0

    def _read_note(self) -> dict[str, str]:
        """Address, ETag and model of the partial file, if it is of the file requested."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            note = json.loads(self._note.read_text())
            if note["asked"] == self._query and self._part.is_file():
                return {name: str(note[name]) for name in ("address", "etag", "model")}
        return {}

    def __enter__(self) -> "Download":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk was reported already
                self._file.close()

    @property
    def resumes(self) -> bool:
        """Whether some of it is there."""
        return self.size > 0

    @property
    def address(self) -> str:
        """Path of the next request; with its query if it resumes."""
        return self._begun["address"] if self.resumes else "/dataset"

    @property
    def query(self) -> dict[str, str] | None:
        """Query of the next request, unless the address has one.

        A seed is drawn here, so that the file has an ETag from the beginning.
        """
        if self.resumes:
            return None
        return {"seed": str(random.randrange(2**52)), **self._query}  # noqa: S311  # no secret

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the next request.

        The last byte is requested again, so the range is not empty if it was the file's last.
        """
        headers = {"accept-encoding": "identity"}
        if self.resumes:
            headers |= {
                "range": f"bytes={self.size - 1}-{LAST_BYTE_UNKNOWN}",
                "if-range": self._begun["etag"],
            }
        return headers

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """A response starts: 206 resumes the file, 200 starts it anew.

        Raises:
            InvalidResponseError: it is not a dataset of Genserve.
        """
        content_range = headers.get("content-range", "")
        try:
            if status == 206:
                start = int(content_range.removeprefix("bytes ").partition("-")[0])
                if start != self.size - 1:
                    raise ValueError(
                        f"Content-Range is {content_range!r}, not from byte {self.size - 1}"
                    )
                total = content_range.rpartition("/")[2]
            else:
                start, total = 0, headers.get("content-length", "*")
                self._begun = {
                    "address": headers["content-location"],
                    "etag": headers.get("etag", ""),
                    "model": headers["x-model"],
                }
            self._total = int(total) if total.isdecimal() else 0
            self._n = int(self._parameter("n"))
        except (KeyError, ValueError) as error:
            raise InvalidResponseError(f"not a dataset of Genserve: {error}") from error
        if self._file is None:
            self._file = open_exclusively(self._part, self.size if start else 0)
        if not start:  # before any byte: a partial file without its note is of no use
            note = {"asked": self._query, **self._begun}  # named as in 0.1, whose files it resumes
            with naming(self._note):
                self._note.write_text(json.dumps(note, indent=1) + "\n")
        self._count_up_to(start)
        self._file.seek(start)
        self._file.truncate()
        self.size = start
        self._report(self._progress)

    def write(self, chunk: bytes) -> None:
        """Some of it has arrived."""
        assert self._file is not None
        with naming(self._part):
            self._file.write(chunk)
        self.size += len(chunk)
        self._count(chunk)
        self._report(self._progress)

    def interrupted(self) -> None:
        """The response ended early. Without an ETag the file cannot be resumed."""
        if not self._begun.get("etag"):
            self.size = 0

    def finish(self) -> Dataset:
        """The response has ended: give the complete file its name.

        Raises:
            InvalidResponseError: the size is not the one announced.
        """
        assert self._file is not None
        with naming(self._part):
            self._file.flush()
        if self._total and self.size != self._total:
            raise InvalidResponseError(
                f"{self._part} has {self.size} bytes; the service announced {self._total}"
            )
        # It stays locked until it has its name, except on Windows, which renames no open file.
        if os.name == "nt":
            self._file.close()
        self._part.replace(self.path)
        self._note.unlink(missing_ok=True)
        self._file.close()
        seed, address = int(self._parameter("seed")), self._begun["address"]
        return Dataset(self.path, self.size, self._begun["model"], seed, self._n, address)

    def _parameter(self, name: str) -> str:
        """A parameter in the file's address."""
        return parse_qs(urlsplit(self._begun["address"]).query)[name][0]

    @property
    def _progress(self) -> Progress:
        if self._total:
            images = self._n * self.size // self._total
        else:
            images = min(max(self._members - 1, 0), self._n)  # the last may be incomplete
        return Progress(self.size, images, self._n)

    def _count_up_to(self, size: int) -> None:
        """Count the members in the file's first ``size`` bytes."""
        assert self._file is not None
        self._members, self._tail = 0, b""
        self._file.seek(0)
        while size and (chunk := self._file.read(min(size, 2**20))):
            self._count(chunk)
            size -= len(chunk)

    def _count(self, chunk: bytes) -> None:
        """Count members for the progress only: pixels may spell their first bytes by chance."""
        if self._query["format"] == "zip":
            seen = self._tail + chunk
            self._members += seen.count(_ZIP_MEMBER)
            self._tail = seen[-len(_ZIP_MEMBER) + 1 :]


class MemoryDownload(Download):
    """A file that arrives in a temporary folder, and whose arrays are kept instead of it.

    Args:
        query, progress: As of ``Download``.
    """

    def __init__(
        self,
        query: Mapping[str, str],
        progress: Callable[[Progress], object] | None = None,
    ) -> None:
        self._folder = TemporaryDirectory(prefix="genserve-")
        super().__init__(Path(self._folder.name) / "dataset.npz", query, progress)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self._folder.cleanup()

    def finish(self) -> Dataset:
        """The arrays of the complete file."""
        complete = super().finish()
        return replace(complete, path=None, held=complete.arrays)


def dataset(
    path: str | PathLike[str] | None = None,
    *,
    n: int | None = None,
    label: str | int | None = None,
    model: str | None = None,
    seed: int | None = None,
    split: Literal["train", "validation", "test"] | None = None,
    metadata: Metadata | None = None,
    compress: bool = False,
    format: Literal["zip", "npz"] | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> Download:
    """Download any number of labelled images: as one file, or as arrays in memory.

    An interrupted call leaves ``path.part``, and the next call with the same arguments resumes it:
    the file is the same, byte for byte. That needs a model whose reproducibility is not visual;
    with another the file starts anew.

    Args:
        path: Of the file, .zip or .npz; none = arrays in memory.
        n: Images, 1000 if left out.
        label: Class of all images; every class equally often if left out.
        model: As for ``generate``.
        seed: Opens a stream of seeds, one an image, which the file lists; random if left out.
        split: A part of the stream; no image is in two.
        metadata: As for ``generate``, in each PNG of a ZIP.
        compress: Deflate the file: a quarter (.npz) to a half (.zip) of the bytes.
        format: If the path's suffix does not say.
        progress: Called with what has arrived.

    Raises:
        OSError: the file cannot be written.
        ValueError: neither path nor format says which format.
    """
    if path is None and format not in (None, "npz"):
        raise ValueError(f"format is {format!r}; without a path arrays are returned, as of npz")
    chosen = format or ("npz" if path is None else Path(path).suffix.lower().removeprefix("."))
    if chosen not in DATASET_FORMATS:
        raise ValueError(
            f"{str(path)!r} does not say which format; allowed are .zip and .npz, or the option "
            "format"
        )
    given = {"model": model, "label": label, "n": n, "seed": seed, "split": split}
    given["metadata"] = metadata
    query = {name: str(value) for name, value in given.items() if value is not None}
    if compress:
        query["compress"] = "true"
    query["format"] = chosen
    return MemoryDownload(query, progress) if path is None else Download(path, query, progress)
