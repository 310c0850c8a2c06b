"""A folder of pictures as training and test set: one sub-folder for each class, or no classes."""

import functools
import hashlib
import os
import stat
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import torch

from training.data.dataset import UNKNOWN_LICENCE, DataError, Dataset, DataSpec
from training.data.pictures import FORMATS, Image, PictureError, read_picture
from training.data.splits import groups_of, held_out, held_out_groups
from training.networks.header import MAX_LABEL_CHARACTERS

DEFAULT_SIZE = 28
MIN_PICTURES = 20
MAX_FILE_BYTES = 2**28  # enough for any picture within pictures.MAX_PIXELS
READERS = 4  # threads; Pillow releases the GIL while it decodes and scales
UNLABELLED = "unlabelled"  # the single class of pictures without classes

Classes = dict[str, list[Path]]  # name -> files; UNLABELLED alone for a flat folder


class _Picture(NamedTuple):
    key: bytes  # SHA-256 of the file: sorts the set and selects the test images
    image: Image
    label: int
    path: Path


def load_folder(spec: DataSpec, memory: int | None = None) -> tuple[Dataset, Dataset]:
    """The pictures of a folder as training and test set.

    ``FOLDER/<class>/**`` are the pictures of a class; links are followed, hidden files ignored.
    ``FOLDER/train`` and ``FOLDER/test``, if both exist, each contain such classes. Otherwise a
    tenth of each class becomes the test set, selected by the SHA-256 of the files, so that it does
    not depend on file names; with ``spec.groups`` whole groups, such as all pictures of a person.
    The images are sorted by that digest, which mixes the classes.

    Unreadable files and empty class folders are left out and listed on stderr. A picture that is in
    several classes is used, and reported there.

    Args:
        spec: Of a folder; size 0 = 28 pixels, channels 0 = as in the files.
        memory: Bytes that the pictures may take; None = the machine's memory.

    Raises:
        DataError: the folder cannot be used; the message says what to do.
    """
    folder, size = Path(spec.source), spec.image_size or DEFAULT_SIZE
    entries = {path.name.lower(): path for path in _visible(folder) if path.is_dir()}
    split = "train" in entries and "test" in entries
    if split and spec.groups:
        raise DataError(f"{folder} has train/ and test/: leave out --holdout-groups")
    sides = [entries["train"], entries["test"]] if split else [folder]
    if split:
        beside = [path.name for path in _visible(folder) if path not in sides]
        _note(f"beside train and test in {folder}", beside)
    elif "train" in entries and any(path.is_dir() for path in _visible(entries["train"])):
        raise DataError(
            f"{folder} has train/ but no test/: add one, or name {entries['train']}, and a tenth "
            "of it becomes the test set"
        )
    classes_of = [_classes(side) for side in sides]
    names = tuple(classes_of[0])
    if surplus := [name for classes in classes_of for name in classes if name not in names]:
        raise DataError(f"{sides[1]} has classes that train/ does not have: {_listed(surplus)}")
    count = sum(len(files) for classes in classes_of for files in classes.values())
    _check_memory(folder, count, spec.image_channels or 3, size, memory or _memory_bytes())
    pictures = _read_all(classes_of, names, size, spec.image_channels)
    if not any(pictures):
        raise DataError(
            f"{folder} has no pictures. Put them into {folder}/<class>/, a sub-folder for each "
            f"class ({', '.join(FORMATS)})"
        )
    _check_depth(folder, pictures)
    _report_contradictions(pictures, names)
    least = 1 if split else 2
    counts = Counter(picture.label for picture in pictures[0])
    few = [f"{name} ({counts[k]})" for k, name in enumerate(names) if counts[k] < least]
    if few:
        raise DataError(
            f"classes in {sides[0]} with fewer than {least} readable pictures: {_listed(few)}; "
            "add pictures, or remove the class folder"
        )
    if split:
        train, test = pictures
        shown = {picture.label for picture in test}
        if unseen := [name for label, name in enumerate(names) if label not in shown]:
            print(
                f"{sides[1]} has no readable picture of these classes: {_listed(unseen)}. They "
                "will not be measured",
                file=sys.stderr,
            )
    else:
        if spec.groups:
            paths = [picture.path.relative_to(folder) for picture in pictures[0]]
            held = held_out_groups(groups_of(paths, spec.groups))
        else:
            held = held_out([p.key for p in pictures[0]], [p.label for p in pictures[0]])
        train = [picture for picture, is_test in zip(pictures[0], held, strict=True) if not is_test]
        test = [picture for picture, is_test in zip(pictures[0], held, strict=True) if is_test]
        kept = {picture.label for picture in train}
        if same := [name for label, name in enumerate(names) if label not in kept]:
            why = "are all of held-out groups" if spec.groups else "are all copies of one"
            raise DataError(f"classes whose files {why}: {_listed(same)}; add others")
    if len(train) + len(test) < MIN_PICTURES or len(test) < 2:
        raise DataError(
            f"{folder} has {len(train)} pictures for training and {len(test)} for the test; at "
            f"least {MIN_PICTURES} in all and 2 for the test are needed, and for good results some "
            "hundreds of each class"
        )
    licence = spec.licence or UNKNOWN_LICENCE
    return (
        _dataset(spec.name, licence, train, names),
        _dataset(spec.name, licence, test, names),
    )


def _visible(folder: Path) -> list[Path]:
    """The entries of a folder, sorted by name, without hidden ones; [] if it does not exist."""
    try:
        entries = list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        _refuse(error)
    return sorted(path for path in entries if not path.name.startswith("."))


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"cannot read the folder {error.filename}: {error.strerror}") from error


def _classes(folder: Path) -> Classes:
    """The class folders of ``folder`` with their files, sorted by name; empty ones are left out."""
    entries = _visible(folder)
    loose = [path for path in entries if not path.is_dir()]
    classes: Classes = {}
    empty = []
    for path in entries:
        if path.is_dir():
            name = unicodedata.normalize("NFC", path.name)  # macOS decomposes accents
            if not (name.isprintable() and len(name) <= MAX_LABEL_CHARACTERS):
                raise DataError(
                    f"a class has the name of its folder, and {path.name!a} in {folder} is not 1 "
                    f"to {MAX_LABEL_CHARACTERS} printable characters: rename it"
                )
            if name in classes:
                raise DataError(f"two folders in {folder} are both called {name!r}: rename one")
            if files := _files_below(path):
                classes[name] = files
            else:
                empty.append(name)
    _note(f"empty class folders in {folder}", empty)
    deep = [
        name
        for name, files in classes.items()
        if all(file.parent.name != name for file in files) and len({f.parent for f in files}) > 1
    ]
    if deep:
        print(
            f"all pictures of these classes in {folder} are in sub-folders: {_listed(deep)}. If "
            f"those are the classes, name their parent folder, such as {folder / deep[0]}",
            file=sys.stderr,
        )
    if not classes and loose:
        return {UNLABELLED: loose}
    _note(f"files of no class, directly in {folder}", [path.name for path in loose])
    return dict(sorted(classes.items()))


def _files_below(folder: Path) -> list[Path]:
    """All files below, sorted. Each real folder is entered once, and no parent of this one, so
    links cannot form a cycle."""
    entered = {str(parent) for parent in Path(os.path.realpath(folder)).parents}
    files = []
    for parent, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
    return files


def _memory_bytes() -> int | None:
    """The machine's memory; None if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _check_memory(folder: Path, count: int, channels: int, size: int, memory: int | None) -> None:
    """Refuse more pictures than fit into memory, before hours of reading.

    Raises:
        DataError: there are too many.
    """
    each = 2 * channels * size * size  # twice: as read, and stacked
    if memory is not None and count * each > memory:
        raise DataError(
            f"{folder} has {count} pictures, but only about {memory // each} of {channels} x "
            f"{size} x {size} fit into this machine's {memory / 1e9:.1f} GB: use fewer, or a "
            "smaller --image-size"
        )


def _read(size: int, channels: int, path: Path) -> tuple[bytes, Image] | str:
    """A file's key and picture, or the reason why it cannot be read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait forever
            return "not a regular file"
        if status.st_size > MAX_FILE_BYTES:
            return f"over {MAX_FILE_BYTES >> 20} MB"
        data = path.read_bytes()
        return hashlib.sha256(data).digest(), read_picture(data, size, channels)
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()
    except PictureError as error:
        return str(error)


def _read_all(
    classes_of: Sequence[Classes], names: Sequence[str], size: int, channels: int
) -> list[list[_Picture]]:
    """The readable pictures of each side, sorted by their keys."""
    from tqdm import tqdm  # optional package: imported late, so that earlier errors come first

    places = [
        (side, names.index(name), path)
        for side, classes in enumerate(classes_of)
        for name, files in classes.items()
        for path in files
    ]
    read = functools.partial(_read, size, channels)
    pictures: list[list[_Picture]] = [[] for _ in classes_of]
    bad = []
    with ThreadPool(READERS) as pool:
        results = tqdm(
            pool.imap(read, (path for _, _, path in places), chunksize=8),
            total=len(places),
            desc="reading",
            unit=" pictures",
            delay=2,
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )
        for (place, label, path), result in zip(places, results, strict=True):
            if isinstance(result, str):
                bad.append(f"{_shown(path.parent.name)}/{_shown(path.name)} ({result})")
            else:
                pictures[place].append(_Picture(result[0], result[1], label, path))
    _note("unusable files", bad)
    for side in pictures:
        side.sort(key=lambda picture: (picture.key, picture.label))
    return pictures


def _check_depth(folder: Path, pictures: Iterable[Sequence[_Picture]]) -> None:
    """Refuse a mixture of grey and colour: a network has one number of channels.

    Raises:
        DataError: there are both.
    """
    depths = [picture.image.ndim for side in pictures for picture in side]
    grey = depths.count(2)
    if 0 < grey < len(depths):
        raise DataError(
            f"{folder} has {grey} grey and {len(depths) - grey} colour pictures: use "
            "--image-channels 3 to convert all to RGB, or --image-channels 1 to convert all to grey"
        )


def _report_contradictions(pictures: Iterable[Sequence[_Picture]], names: Sequence[str]) -> None:
    """Say on stderr how many pictures are in more than one class, with an example.

    Pictures are equal if their pixels are, so copies saved in another format are seen too.
    """
    by_pixels: dict[bytes, dict[int, Path]] = {}  # digest -> class -> its first file
    for side in pictures:
        for picture in side:
            digest = hashlib.sha256(picture.image.tobytes()).digest()
            by_pixels.setdefault(digest, {}).setdefault(picture.label, picture.path)
    contradictions = [paths for paths in by_pixels.values() if len(paths) > 1]
    if contradictions:
        example = " and ".join(
            f"{_shown(names[label])} ({_shown(path.name)})"
            for label, path in sorted(contradictions[0].items())
        )
        print(
            f"the same picture is in several classes ({len(contradictions)} pictures), such as in "
            f"{example}. All are used; remove those that are in the wrong class",
            file=sys.stderr,
        )


def _dataset(
    name: str, licence: str, pictures: Sequence[_Picture], class_names: tuple[str, ...]
) -> Dataset:
    planes = [np.atleast_3d(picture.image).transpose(2, 0, 1) for picture in pictures]  # (C, H, W)
    labels = torch.tensor([picture.label for picture in pictures])
    return Dataset(name, licence, torch.from_numpy(np.stack(planes)), labels, class_names)


def _shown(name: str) -> str:
    return name if name.isprintable() else ascii(name)


def _listed(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(_shown, names[:limit])) + more


def _note(what: str, names: Sequence[str]) -> None:
    if names:
        print(f"left out, {what} ({len(names)}): {_listed(names)}", file=sys.stderr)
