"""Paths of the images in an archive, and the CSV file that lists them, ``metadata.csv``.

The layout is Hugging Face's ImageFolder, so ``load_dataset("imagefolder", data_files="d.zip")``
loads an archive with its labels and seeds.
"""

import csv
from collections.abc import Sequence
from io import StringIO

MANIFEST_NAME = b"metadata.csv"
MANIFEST_HEADER = b"file_name,label,name,seed\n"


def _csv_field(text: str) -> str:
    """A text as a field of a CSV file (RFC 4180)."""
    out = StringIO()
    csv.writer(out, lineterminator="").writerow([text])
    return out.getvalue()


class Manifest:
    """Paths and rows of the images of one model.

    Each class has a folder, named by its index, since a class's name may be anything. Numbers have
    leading zeros, so that sorting by name, as readers of such folders do, sorts by number.

    Args:
        classes: Names of the classes; empty = the model has none.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        width = len(str(len(classes) - 1))
        self._folders = [f"{index:0{width}d}" for index in range(len(classes))]
        self._names = [_csv_field(name) for name in classes]

    def path(self, index: int, label: int | None) -> str:
        """The path of image number ``index`` in its archive."""
        return f"{'images' if label is None else self._folders[label]}/{index:08d}.png"

    def row(self, index: int, label: int | None, seed: int | None) -> str:
        """The image's line; a label or seed of None is an empty field."""
        columns = "," if label is None else f"{label},{self._names[label]}"
        return f"{self.path(index, label)},{columns},{'' if seed is None else seed}\n"
