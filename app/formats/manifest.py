"""What the pictures in an archive are called, and the list of them, ``manifest.csv``."""

import csv
from collections.abc import Sequence
from io import StringIO

MANIFEST = b"manifest.csv"
HEADER = b"file,label,name,seed\n"


def _field(text: str) -> str:
    """A text as a field of a CSV file (RFC 4180)."""
    out = StringIO()
    csv.writer(out, lineterminator="").writerow([text])
    return out.getvalue()


class Listing:
    """Names and list of the pictures of one model.

    A class has a folder, called by its number, since a class's name may be anything. Numbers have
    zeros in front, so that sorting by name, as readers of such folders do, sorts by number.

    Args:
        classes: The names of the classes; empty = there are none.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        width = len(str(len(classes) - 1))
        self._folders = [f"{index:0{width}d}" for index in range(len(classes))]
        self._fields = [_field(name) for name in classes]

    def file(self, index: int, label: int | None) -> str:
        """The path of picture number ``index`` in its archive."""
        return f"{'images' if label is None else self._folders[label]}/{index:08d}.png"

    def row(self, index: int, label: int | None, seed: int | None) -> str:
        """Its line of the list: what is not known is left empty."""
        told = "," if label is None else f"{label},{self._fields[label]}"
        return f"{self.file(index, label)},{told},{'' if seed is None else seed}\n"
