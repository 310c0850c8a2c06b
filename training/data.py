"""Labelled images from local files: held whole on the device, scaled in one place."""

import hashlib
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

_stub_library: Any = None  # must stay alive as long as torchvision does


class DataError(Exception):
    """The data set is not there or not usable; the message says how to mend it."""


def import_torchvision() -> ModuleType:
    """torchvision, also where its compiled operators do not match torch's build.

    On a CPU-only torch the registry's torchvision fails at import because its ``nms`` operator
    was never registered. Data sets, transforms and ``utils`` do not use it: declare it and retry.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        raise DataError("training needs torchvision and tqdm: run `make dev`") from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [module for module in sys.modules if module.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    global _stub_library
    _stub_library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        _stub_library.define(
            f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    return importlib.import_module("torchvision")


@dataclass(frozen=True)
class Dataset:
    """Labelled images, uint8 as in the files."""

    name: str  # first part of the checkpoint's name
    licence: str
    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "Dataset":
        """The same, held on ``device``: 47 MB for MNIST, so no loader stands in the way."""
        return Dataset(
            self.name,
            self.licence,
            self.images.to(device),
            self.labels.to(device),
            self.class_names,
        )

    def digest(self) -> str:
        """SHA-256 of images and labels, 64 hex digits."""
        sha = hashlib.sha256(self.images.cpu().numpy().tobytes())
        sha.update(self.labels.cpu().numpy().tobytes())
        return sha.hexdigest()


def to_pixels(images: Tensor) -> Tensor:
    """uint8 0 to 255 -> float 0 to 1: the only place where training scales pixels."""
    return images.float() / 255


def default_data_root() -> Path:
    """``../shared/data`` where that stands beside the project, else ``data`` inside it."""
    shared = Path("../shared/data")
    return shared if shared.is_dir() else Path("data")


MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def load_mnist(root: Path, *, train: bool) -> Dataset:
    """The 60,000 training or 10,000 test digits, downloaded to ``root`` when they are missing.

    Raises:
        DataError: missing and not downloadable; the message names the files and where to put them.
    """
    datasets = import_torchvision().datasets
    files = f"{root}/MNIST/raw"
    # torchvision says only "not found" of a file that it cannot use: look for ourselves.
    missing = not all((root / "MNIST" / "raw" / name).is_file() for name in MNIST_FILES)
    if missing:
        print(f"MNIST is not in {files}; downloading it", file=sys.stderr)
    try:
        mnist = datasets.MNIST(str(root), train=train, download=missing)
        if mnist.data.dim() != 3 or len(mnist.data) != len(mnist.targets):
            shape = tuple(mnist.data.shape)
            raise ValueError(f"images of shape {shape} with {len(mnist.targets)} labels")
        if not bool(((mnist.targets >= 0) & (mnist.targets <= 9)).all()):
            raise ValueError("a label is not within 0 to 9")
    except Exception as error:  # torchvision raises many classes for files it cannot parse
        if missing:
            raise DataError(
                f"MNIST is not in {files} and could not be downloaded. Put the four files "
                f"({', '.join(MNIST_FILES)}; unpacked) there, or name the folder that has "
                "MNIST/raw in it with --data-root"
            ) from error
        raise DataError(f"the MNIST files in {files} are damaged: {error}") from error
    return Dataset(
        name="mnist",
        licence="CC BY-SA 3.0 (Y. LeCun, C. Cortes, C. Burges)",
        images=mnist.data.unsqueeze(1).contiguous(),
        labels=mnist.targets.long(),
        class_names=tuple(str(digit) for digit in range(10)),
    )


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order of the images in one epoch: a function of seed and epoch, so resuming needs none
    of the earlier ones. (count,) int64 on the CPU."""
    generator = torch.Generator().manual_seed((seed << 20) + epoch)
    return torch.randperm(count, generator=generator)
