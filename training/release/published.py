"""Published checkpoints: where they are, and the images that they were trained on."""

import sys
from pathlib import Path

from training.data.dataset import DataError, Dataset, DataSpec
from training.data.named_sets import NAMED
from training.data.sources import data_spec
from training.networks.configs import GRAPH
from training.networks.header import Description

STORE = Path("models_store")  # the default folder of published checkpoints


def data_of(
    path: Path, description: Description, source: str | None, data_root: Path | None
) -> DataSpec:
    """The images that the published checkpoint at ``path`` was trained on.

    Args:
        source: As for ``data_spec``; None = the data set that the header names.

    Raises:
        DataError: the header names none, because it was a folder, or is not known here.
    """
    stated = description.data
    if source is None and description.kind == GRAPH:
        source = str(stated.get("name"))
        if source not in NAMED:
            raise DataError(
                f"{path} was imported, and what it was trained on is stated as {source!r}: name "
                f"with --data a folder of such pictures, or {', '.join(NAMED)}"
            )
    if source is None:
        source = str(stated.get("source", stated.get("name")))
        if source not in NAMED:
            raise DataError(
                f"{path} was trained on a folder called {stated.get('name')!r}; checkpoints do not "
                "store its path, for privacy. Name it with --data"
            )
    channels, side, _ = description.network.image_shape
    groups = str(stated.get("holdout_groups", ""))
    return data_spec(source, data_root, image_size=side, image_channels=channels, groups=groups)


def check_data(path: Path, description: Description, train: Dataset) -> None:
    """Warn on stderr if ``train`` is not the training set that the checkpoint at ``path`` names.

    Raises:
        DataError: its classes are not those that the checkpoint generates.
    """
    if description.labels and train.class_names != description.labels:
        raise DataError(
            f"{path} generates {', '.join(description.labels[:20])}, but the classes of "
            f"{train.name} are {', '.join(train.class_names[:20])}; name its own data with --data"
        )
    if "digest" in description.data and train.digest() != description.data["digest"]:
        print(
            f"the training images of {train.name} are not those that {path} names, or are decoded "
            "differently here: the columns 'value' and 'stated' are not comparable",
            file=sys.stderr,
        )
