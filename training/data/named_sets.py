"""The public data sets known by name, and how each is read."""

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

from training.data.dataset import DataError, Dataset, DataSpec, import_torchvision
from training.data.pictures import fit
from training.data.splits import held_out

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images (N, H, W[, 3]), labels (N,)
Read = Callable[[Path], tuple[Split, Split]]  # data root -> training and test set


@dataclass(frozen=True)
class NamedSet:
    """A public data set."""

    read: Read
    class_names: tuple[str, ...]
    licence: str
    shape: tuple[int, int] = (28, 1)  # default pixels a side and channels


def _torchvision(
    title: str, name: str, folder: str, files: tuple[str, ...], **options: Any
) -> Read:
    """A reader of a set through torchvision, which downloads missing files.

    Args:
        title: The set's name in messages.
        name: Class in ``torchvision.datasets``.
        folder: Folder of the files below the data root; "" = the root itself.
        files: Required files; if one is missing, the set is downloaded.
        options: Arguments of that class.
    """

    def read(root: Path) -> tuple[Split, Split]:
        dataset_class = getattr(import_torchvision().datasets, name)
        place = root / folder
        # torchvision reports a damaged file as "not found", so missing files are checked here.
        missing = not all((place / file).is_file() for file in files)
        if missing:
            print(f"{title} is not in {place}; downloading it", file=sys.stderr)
        try:
            train = dataset_class(str(root), train=True, download=missing, **options)
            test = dataset_class(str(root), train=False, download=missing, **options)
            return _arrays(train), _arrays(test)
        except Exception as error:  # torchvision raises many classes on damaged files
            if missing:
                contains = f"contains {folder}" if folder else "contains them"
                raise DataError(
                    f"{title} is not in {place} and could not be downloaded. Put the files "
                    f"({', '.join(files)}; unpacked) there, or name the folder that {contains} "
                    "with --data-root"
                ) from error
            reason = str(error) or type(error).__name__
            raise DataError(
                f"the {title} files in {place} are damaged ({reason}); delete them to download "
                "them again"
            ) from error

    return read


def _arrays(loaded: Any) -> Split:
    """Images and labels of a torchvision data set.

    Raises:
        ValueError: they are not uint8 images with one label each.
    """
    images, labels = np.asarray(loaded.data), np.asarray(loaded.targets, dtype=np.int64)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(labels):
        raise ValueError(f"images of shape {images.shape} with {len(labels)} labels")
    return images, labels


def _transposed(read: Read) -> Read:
    """The same reader with rows and columns exchanged."""

    def upright(root: Path) -> tuple[Split, Split]:
        train, test = read(root)
        return (train[0].swapaxes(1, 2), train[1]), (test[0].swapaxes(1, 2), test[1])

    return upright


def _digits(root: Path) -> tuple[Split, Split]:
    """The 1,797 digits of scikit-learn: 8 x 8, grey levels 0 to 16, no download."""
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
    """Folder and names of files in MNIST's format."""
    return f"{folder}/raw", (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )


_DIGITS = tuple(string.digits)
NAMED = {
    "mnist": NamedSet(
        _torchvision("MNIST", "MNIST", *_idx("MNIST")),
        _DIGITS,
        "CC BY-SA 3.0 (Y. LeCun, C. Cortes, C. Burges)",
    ),
    # Zalando's names in lower case, as in requests: label=sneaker.
    "fashion-mnist": NamedSet(
        _torchvision("Fashion-MNIST", "FashionMNIST", *_idx("FashionMNIST")),
        (
            *("t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker"),
            *("bag", "ankle boot"),
        ),
        "MIT (Zalando SE)",
    ),
    "kmnist": NamedSet(
        _torchvision("KMNIST", "KMNIST", *_idx("KMNIST")),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        "CC BY-SA 4.0 (ROIS-DS Center for Open Data in the Humanities)",
    ),
    # EMNIST's "balanced" split: 47 digits and letters, equally many images each; a capital that
    # looks like its small letter shares its class. Its files store each image transposed.
    "emnist": NamedSet(
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
    "usps": NamedSet(
        _torchvision("USPS", "USPS", "", ("usps.bz2", "usps.t.bz2")),
        _DIGITS,
        "none stated (J. Hull 1994)",
    ),
    # torchvision unpickles these files. That is accepted here only, because its constructor first
    # compares the MD5 of every file with its own table (a test checks that it does): only the
    # authors' files are unpickled.
    "cifar10": NamedSet(
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
    "digits": NamedSet(_digits, _DIGITS, "CC BY 4.0 (E. Alpaydin, C. Kaynak)"),
}


def load_named(spec: DataSpec) -> tuple[Dataset, Dataset]:
    """Training and test set of a named set, in the size and depth that ``spec`` asks for.

    Raises:
        DataError: its files are missing or damaged.
    """
    named = NAMED[spec.source]
    train, test = named.read(Path(spec.root))
    return _dataset(spec, named, train), _dataset(spec, named, test)


def _dataset(spec: DataSpec, named: NamedSet, split: Split) -> Dataset:
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
