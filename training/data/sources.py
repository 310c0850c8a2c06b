"""What ``--data`` names: a public set or a folder, found and loaded."""

import dataclasses
import difflib
from pathlib import Path
from typing import Any

from training.data.dataset import DataError, Dataset, DataSpec
from training.data.folder import load_folder
from training.data.named_sets import NAMED, load_named

SIZES = (28, 32, 64)  # pixels a side that --image-size allows; the networks need a multiple of 4
DEFAULT = "mnist"


def default_data_root() -> Path:
    """``../shared/data`` where that stands beside the project, else ``data`` inside it."""
    shared = Path("../shared/data")
    return shared if shared.is_dir() else Path("data")


def data_spec(source: str, root: Path | None = None, **wanted: Any) -> DataSpec:
    """The spec of what ``--data`` names.

    Args:
        source: A key of NAMED, else a folder's path; ``./mnist`` is a folder called mnist.
        root: Where named sets live; None = ``default_data_root``.
        wanted: Fields of DataSpec that differ from the source's own.

    Raises:
        DataError: it is neither a known set nor a folder.
    """
    if not source:
        raise DataError(f"--data is empty: name a folder, or one of {', '.join(NAMED)}")
    place = str(root or default_data_root())
    if source in NAMED:
        return DataSpec(source, place, **wanted)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return DataSpec(str(folder.resolve()), place, **wanted)
    if folder.exists():
        raise DataError(f"{source} is a file; unpack it and name the folder of its pictures")
    near = difflib.get_close_matches(source.lower(), NAMED, 1)
    raise DataError(
        f"no data {source!r}: there is no such folder, and the sets known by name are "
        f"{', '.join(NAMED)}{f'; did you mean {near[0]}?' if near else ''}"
    )


def relocated(spec: DataSpec, source: str | None, root: Path | None) -> DataSpec:
    """The same images at a new place; None = unchanged. ``load_data`` checks their digest.

    Raises:
        DataError: there is nothing at that place.
    """
    spec = dataclasses.replace(spec, root=str(root)) if root else spec
    if source is None:
        return spec
    return dataclasses.replace(spec, source=data_spec(source, Path(spec.root)).source)


def load_data(spec: DataSpec) -> tuple[Dataset, Dataset]:
    """Training and test set in the size and depth of ``spec``, in memory as uint8.

    Raises:
        DataError: missing, damaged or unusable, or the training images do not have
            ``spec.digest``; the message says what to do.
    """
    if spec.is_folder:
        if not Path(spec.source).is_dir():
            raise DataError(f"the folder {spec.source} is gone; name its new place with --data")
        train, test = load_folder(spec)
    elif spec.source not in NAMED:
        raise DataError(
            f"no set is known by the name {spec.source!r} (there are {', '.join(NAMED)}); say with "
            "--data where its images are"
        )
    else:
        if spec.groups:
            raise DataError(f"--holdout-groups is for folders; {spec.source} has a test set")
        train, test = load_named(spec)
    if spec.digest and train.digest() != spec.digest:
        raise DataError(
            f"the training images of {spec.source} have changed: "
            f"{_difference(spec, train)}. Restore the old ones (--data names their folder), or "
            "start a new run"
        )
    return train, test


def _difference(spec: DataSpec, train: Dataset) -> str:
    """What has changed since ``spec`` was filled in, as far as the counts show it."""
    before, now = dict(spec.counts), train.counts
    if before and before != now:
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        shown = [
            f"{name!r} has {now.get(name, 0)} images instead of {before.get(name, 0)}"
            for name in names[:5]
        ]
        more = [f"{len(names) - 5} more classes differ"] if len(names) > 5 else []
        return ", ".join(shown + more)
    return (
        f"their digest is {train.digest()[:12]}…, it was {spec.digest[:12]}…, so files have "
        "changed or are decoded differently here"
    )
