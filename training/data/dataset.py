"""A set of labelled images, held in memory, and the spec that identifies it."""

import dataclasses
import hashlib
import importlib
import os
import re
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

_stub_library: Any = None  # must not be garbage-collected while torchvision is loaded


class DataError(Exception):
    """The data set is missing or not usable; the message says what to do."""


def import_torchvision() -> ModuleType:
    """torchvision, even if its compiled operators do not match torch's build.

    With a CPU-only torch, torchvision's default build fails at import because its ``nms`` operator
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


UNKNOWN_LICENCE = "unknown"


@dataclass(frozen=True)
class DataSpec:
    """Which images a run is trained on: enough to load the same ones again (stored in config.json).

    ``sources.data_spec`` makes one from ``--data``; ``filled_in`` completes it from the images.
    """

    source: str  # a key of training.data.sources.NAMED, or a folder's absolute path
    root: str  # folder in which named sets live
    image_size: int = 0  # pixels a side; 0 = the source's own
    image_channels: int = 0  # 1 = grey, 3 = RGB; 0 = as the images are
    licence: str = ""  # of the images; "" = the source's own, UNKNOWN_LICENCE for a folder
    digest: str = ""  # Dataset.digest() of the training images; "" = not loaded yet
    # Images of each class, to report what has changed since; () = not loaded yet.
    counts: tuple[tuple[str, int], ...] = ()
    # Of a folder: a regular expression for the part of a picture's path that names its group, which
    # is held out whole; "" = pictures are held out one by one.
    groups: str = ""

    def __post_init__(self) -> None:
        try:
            re.compile(self.groups)
        except re.error as error:
            raise ValueError(
                f"{self.groups!r} is not a regular expression for groups: {error}"
            ) from error
        if len(self.licence) > 200 or not self.licence.isprintable():
            raise ValueError(
                f"the licence {self.licence[:40]!r} is not a line of at most 200 printable "
                "characters"
            )

    @property
    def is_folder(self) -> bool:
        """Whether the source is a folder of pictures instead of a set known by name."""
        return os.path.isabs(self.source)

    @property
    def name(self) -> str:
        """First part of a checkpoint's name: the set's name, or a slug of the folder's."""
        if not self.is_folder:
            return self.source
        ascii_only = unicodedata.normalize("NFKD", Path(self.source).name).encode("ascii", "ignore")
        slug = re.sub("[^a-z0-9]+", "-", ascii_only.decode().lower()).strip("-")
        return slug[:40].strip("-") or "data"

    def filled_in(self, train: "Dataset") -> "DataSpec":
        """The same with every field set from the loaded training images."""
        channels, size, _ = train.images.shape[1:]
        return dataclasses.replace(
            self,
            image_size=size,
            image_channels=channels,
            licence=train.licence,
            digest=train.digest(),
            counts=tuple(train.counts.items()),
        )


@dataclass(frozen=True)
class Dataset:
    """Labelled images, uint8, all of one size."""

    name: str  # first part of the checkpoint's name
    licence: str
    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64
    class_names: tuple[str, ...]  # by label; a single one for images without classes

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "Dataset":
        """The same on ``device``: MNIST is only 47 MB, so no data loader is needed."""
        return Dataset(
            self.name,
            self.licence,
            self.images.to(device),
            self.labels.to(device),
            self.class_names,
        )

    @property
    def counts(self) -> dict[str, int]:
        """Class -> number of images."""
        counts = self.labels.bincount(minlength=len(self.class_names)).tolist()
        return dict(zip(self.class_names, counts, strict=True))

    def counts_text(self, most: int = 12) -> str:
        """The counts of the first ``most`` classes, for a line of text."""
        shown = [f"{name} ({count:,})" for name, count in self.counts.items()]
        more = [f"and {len(shown) - most} more"] if len(shown) > most else []
        return ", ".join(shown[:most] + more)

    def in_order_of(self, names: tuple[str, ...]) -> "Dataset":
        """The same with its classes numbered as in ``names``, if those are the same names."""
        if names == self.class_names or sorted(names) != sorted(self.class_names):
            return self
        numbers = torch.tensor([names.index(name) for name in self.class_names])
        labels = numbers.to(self.labels.device)[self.labels]
        return dataclasses.replace(self, labels=labels, class_names=names)

    def digest(self) -> str:
        """SHA-256 of images and labels, 64 hex digits."""
        sha = hashlib.sha256(self.images.cpu().numpy().tobytes())
        sha.update(self.labels.cpu().numpy().tobytes())
        return sha.hexdigest()


def to_pixels(images: Tensor) -> Tensor:
    """uint8 0 to 255 -> float 0 to 1: the only place where training scales pixels."""
    return images.float() / 255


def first_images(data: Dataset, count: int) -> Tensor:
    """The first ``count`` images (count, C, H, W) uint8; a smaller set is repeated."""
    return data.images[torch.arange(count, device=data.images.device) % len(data)]


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order of the images in one epoch, (count,) int64 on the CPU: a function of seed and epoch
    alone, so resuming does not need earlier epochs."""
    generator = torch.Generator().manual_seed((seed << 20) + epoch)
    return torch.randperm(count, generator=generator)


def balanced_order(labels: Tensor, seed: int, epoch: int) -> Tensor:
    """As ``epoch_order``, (N,), but with each class equally often in any stretch of it.

    Images of rare classes come several times, and some of frequent ones wait for a later epoch.

    Args:
        labels: Of the images, (N,).
    """
    generator = torch.Generator().manual_seed((seed << 20) + epoch)
    labels = labels.cpu()
    classes = labels.unique()
    each = -(-len(labels) // len(classes))
    columns = []
    for label in classes:
        own = torch.where(labels == label)[0]
        turns = [
            own[torch.randperm(len(own), generator=generator)] for _ in range(-(-each // len(own)))
        ]
        columns.append(torch.cat(turns)[:each])
    rows = torch.stack(columns, dim=1)  # (each, K): an image of each class
    mixed = torch.stack([row[torch.randperm(len(row), generator=generator)] for row in rows])
    return mixed.flatten()[: len(labels)]
