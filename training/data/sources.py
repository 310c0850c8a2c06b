"""Where images come from: the sets known by name, and ``load`` for these and for folders alike."""

import dataclasses
import difflib
import hashlib
import string
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage

from training.data.dataset import DataError, Dataset, DataSpec, held_out, import_torchvision
from training.data.folder import load_folder
from training.data.pictures import fit

SIZES = (28, 32, 64)  # pixels a side that --image-size takes; the networks need a multiple of 4
DEFAULT = "mnist"

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images (N, H, W[, 3]), labels (N,)
Read = Callable[[Path], tuple[Split, Split]]  # data root -> training and test set


@dataclass(frozen=True)
class Named:
    """A public set, in its own size and depth until another is asked for."""

    read: Read
    class_names: tuple[str, ...]
    licence: str
    shape: tuple[int, int] = (28, 1)  # pixels a side and channels, unless asked for others


def _torchvision(
    title: str, name: str, folder: str, files: tuple[str, ...], **options: Any
) -> Read:
    """How to read a set through torchvision, which downloads it where there is a network.

    Args:
        title: For messages.
        name: Of the class in ``torchvision.datasets``.
        folder: Of the files, below the data root; "" = the root itself.
        files: All that must be there, or the set is downloaded.
        options: For that class.
    """

    def read(root: Path) -> tuple[Split, Split]:
        make = getattr(import_torchvision().datasets, name)
        place = root / folder
        # torchvision says only "not found" of a file that it cannot use: look for ourselves.
        missing = not all((place / file).is_file() for file in files)
        if missing:
            print(f"{title} is not in {place}; downloading it", file=sys.stderr)
        try:
            train = make(str(root), train=True, download=missing, **options)
            test = make(str(root), train=False, download=missing, **options)
            return _arrays(train), _arrays(test)
        except Exception as error:  # torchvision raises many classes for files it cannot parse
            if missing:
                holds = f"has {folder} in it" if folder else "has them"
                raise DataError(
                    f"{title} is not in {place} and could not be downloaded. Put the files "
                    f"({', '.join(files)}; unpacked) there, or name the folder that {holds} with "
                    "--data-root"
                ) from error
            reason = str(error) or type(error).__name__
            raise DataError(
                f"the {title} files in {place} are damaged ({reason}); delete them, and they are "
                "downloaded again"
            ) from error

    return read


def _arrays(loaded: Any) -> Split:
    """Images and labels of one of torchvision's sets.

    Raises:
        ValueError: they are not of the form that all of its sets have.
    """
    images, labels = np.asarray(loaded.data), np.asarray(loaded.targets, dtype=np.int64)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(labels):
        raise ValueError(f"images of shape {images.shape} with {len(labels)} labels")
    return images, labels


def _transposed(read: Read) -> Read:
    """The same with rows and columns exchanged."""

    def upright(root: Path) -> tuple[Split, Split]:
        train, test = read(root)
        return (train[0].swapaxes(1, 2), train[1]), (test[0].swapaxes(1, 2), test[1])

    return upright


def _digits(root: Path) -> tuple[Split, Split]:
    """The 1,797 digits that come with scikit-learn: 8 x 8, grey levels 0 to 16, no download."""
    del root
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise DataError("--data digits needs scikit-learn: run `make dev`") from error
    found = load_digits()
    images = np.round(found.images * (255 / 16)).astype(np.uint8)
    labels = found.target.astype(np.int64)
    keys = [hashlib.sha256(image.tobytes()).digest() for image in images]
    test = np.array(held_out(keys, labels.tolist()))
    return (images[~test], labels[~test]), (images[test], labels[test])


def _idx(folder: str) -> tuple[str, tuple[str, ...]]:
    """The place and the names of files in MNIST's own format."""
    return f"{folder}/raw", (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )


_DIGITS = tuple(string.digits)
NAMED = {
    "mnist": Named(
        _torchvision("MNIST", "MNIST", *_idx("MNIST")),
        _DIGITS,
        "CC BY-SA 3.0 (Y. LeCun, C. Cortes, C. Burges)",
    ),
    # Zalando's names in lower case, as one asks for them: label=sneaker.
    "fashion-mnist": Named(
        _torchvision("Fashion-MNIST", "FashionMNIST", *_idx("FashionMNIST")),
        (
            *("t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker"),
            *("bag", "ankle boot"),
        ),
        "MIT (Zalando SE)",
    ),
    "kmnist": Named(
        _torchvision("KMNIST", "KMNIST", *_idx("KMNIST")),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        "CC BY-SA 4.0 (ROIS-DS Center for Open Data in the Humanities)",
    ),
    # Of EMNIST's six splits the one with as many images of each class: 47 digits and letters, where
    # capitals that look like their small letters are one class with them. Its files hold each
    # image by columns.
    "emnist": Named(
        _transposed(
            _torchvision(
                "EMNIST",
                "EMNIST",
                "EMNIST/raw",
                (
                    "emnist-balanced-train-images-idx3-ubyte",
                    "emnist-balanced-train-labels-idx1-ubyte",
                    "emnist-balanced-test-images-idx3-ubyte",
                    "emnist-balanced-test-labels-idx1-ubyte",
                ),
                split="balanced",
            )
        ),
        (*_DIGITS, *string.ascii_uppercase, *"abdefghnqrt"),
        "none stated (G. Cohen et al. 2017, from NIST Special Database 19)",
    ),
    "usps": Named(
        _torchvision("USPS", "USPS", "", ("usps.bz2", "usps.t.bz2")),
        _DIGITS,
        "none stated (J. Hull 1994)",
    ),
    # torchvision unpickles these files. It is trusted to, offline and here alone, because its
    # constructor compares the MD5 of every one of them with its own table before it opens the
    # first (a test of ours holds it to that): only the files of the authors get that far.
    "cifar10": Named(
        _torchvision(
            "CIFAR-10",
            "CIFAR10",
            "cifar-10-batches-py",
            (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
        ),
        (
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        "none stated (A. Krizhevsky 2009)",
        shape=(32, 3),
    ),
    "digits": Named(_digits, _DIGITS, "CC BY 4.0 (E. Alpaydin, C. Kaynak)"),
}


def default_data_root() -> Path:
    """``../shared/data`` where that stands beside the project, else ``data`` inside it."""
    shared = Path("../shared/data")
    return shared if shared.is_dir() else Path("data")


def data_spec(source: str, root: Path | None = None, **wanted: Any) -> DataSpec:
    """The description of what a person names.

    Args:
        source: A key of NAMED, else a folder's path; ``./mnist`` is a folder called mnist.
        root: Where named sets live; None = ``default_data_root``.
        wanted: Fields of DataSpec that are not to be the source's own.

    Raises:
        DataError: it is neither.
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


def moved(spec: DataSpec, source: str | None, root: Path | None) -> DataSpec:
    """The same images where they are now; None = where they were. ``load`` checks their digest.

    Raises:
        DataError: there is nothing at that place.
    """
    spec = dataclasses.replace(spec, root=str(root)) if root else spec
    if source is None:
        return spec
    return dataclasses.replace(spec, source=data_spec(source, Path(spec.root)).source)


def load(spec: DataSpec) -> tuple[Dataset, Dataset]:
    """The training and the test set, in the size and depth asked for, held in memory as uint8.

    Raises:
        DataError: missing, damaged or unusable, or no longer what ``spec.digest`` says; the
            message says how to mend it.
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
        named = NAMED[spec.source]
        train, test = (_dataset(spec, named, split) for split in named.read(Path(spec.root)))
    if spec.digest and train.digest() != spec.digest:
        raise DataError(
            f"the training images of {spec.source} are not those of before: "
            f"{_difference(spec, train)}. Bring the old ones back (--data says where they are), "
            "or start a new run"
        )
    return train, test


def _difference(spec: DataSpec, train: Dataset) -> str:
    """What has changed since ``spec`` was filled in, as far as that is known."""
    before, now = dict(spec.counts), train.counts
    if before and before != now:
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        told = [f"{name!r} has {now.get(name, 0)} for {before.get(name, 0)}" for name in names[:5]]
        more = [f"{len(names) - 5} more classes differ"] if len(names) > 5 else []
        return ", ".join(told + more)
    return (
        f"their digest is {train.digest()[:12]}…, it was {spec.digest[:12]}…, so files are others, "
        "or are decoded otherwise here"
    )


def _dataset(spec: DataSpec, named: Named, split: Split) -> Dataset:
    images, labels = split
    classes = len(named.class_names)
    if wrong := sorted(set(labels.tolist()) - set(range(classes))):
        raise DataError(
            f"the {spec.source} files are damaged: a label is {wrong[0]}, of {classes} classes"
        )
    size, channels = spec.image_size or named.shape[0], spec.image_channels or named.shape[1]
    if images.shape[1:] != ((size, size) if channels == 1 else (size, size, 3)):
        mode = "L" if channels == 1 else "RGB"
        images = np.stack(
            [np.asarray(fit(PillowImage.fromarray(image).convert(mode), size)) for image in images]
        )
    planes = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return Dataset(
        name=spec.name,
        licence=spec.licence or named.licence,
        images=torch.from_numpy(np.ascontiguousarray(planes)),
        labels=torch.from_numpy(labels),
        class_names=named.class_names,
    )
