"""Rows: what a network gets and returns for one image.

A batch is a list of rows of one operation of one model, which can share a pass.
"""

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.engines.backend import Floats, Labels, from_levels
from training.networks.configs import Config, Operation
from training.networks.latents import label_draws, normals

OperationKey = tuple[str, Operation]  # a model's name, and what it is to do
Reproducibility = Literal["exact", "visual"]  # exact: a row's bits do not depend on its batch

Image = NDArray[np.uint8]  # (H, W), or (H, W, 3) for a colour model
Latent = NDArray[np.float32]  # (Z,)


class Sample(NamedTuple):
    """A row of ``generate``: a seed, and a label where the model is conditional.

    The latent is ``truncation`` (0 to 1) times the seed's normal numbers: 1 leaves them as they
    are, 0 gives the mean of the latents.
    """

    seed: int
    label: int | None = None
    truncation: float = 1.0


class Point(NamedTuple):
    """A row of ``generate`` with its latent (Z,) instead of a seed."""

    z: Latent
    label: int | None = None


Posterior = tuple[Latent, Latent]  # mu and logvar, each (Z,)
Row = Sample | Point | Latent | Image  # of ``generate`` the first two, ``decode``, ``encode``
Result = Image | Posterior  # the second of ``encode``


def samples_from_seeds(
    numbers: Sequence[int], label: int | None, num_classes: int, truncation: float = 1.0
) -> list[Sample]:
    """One sample a seed. Without a label, a conditional model gets one drawn from each seed.

    Args:
        numbers: The seeds.
        label: Class index of all of them; None = none given.
        num_classes: Of the model; 0 = unconditional.
        truncation: As in ``Sample``.
    """
    labels: Iterable[int | None] = repeat(label)
    if label is None and num_classes and numbers:
        labels = label_draws(np.array(numbers, dtype=np.uint64), num_classes).tolist()
    return list(map(Sample, numbers, labels, repeat(truncation)))


def network_inputs(
    network: Config, operation: Operation, rows: Sequence[Row]
) -> tuple[Floats, Labels | None]:
    """Rows of one operation as its network takes them.

    Returns:
        z (B, Z), or to encode: images (B, C, H, W) in [0, 1]; and labels (B,), None where the
        network or the operation takes none.
    """
    if operation == "decode":
        return np.stack(rows), None  # type: ignore[arg-type]
    if operation == "encode":
        return from_levels(np.stack(rows)), None  # type: ignore[arg-type]
    z = _latents(rows, network.latent_dim)  # type: ignore[arg-type]
    if not network.num_classes:
        return z, None
    return z, np.array([row.label for row in rows], dtype=np.int64)  # type: ignore[union-attr]


def _latents(rows: Sequence[Sample | Point], latent_dim: int) -> Floats:
    """The latents of rows of ``generate``: (B, Z)."""
    if {type(row) for row in rows} != {Sample}:
        samples = [Sample(0) if isinstance(row, Point) else row for row in rows]
        z = _latents(samples, latent_dim)
        for index, row in enumerate(rows):
            if isinstance(row, Point):
                z[index] = row.z
        return z
    numbers, _, truncations = zip(*rows, strict=True)
    z = normals(np.array(numbers, dtype=np.uint64), latent_dim)
    if set(truncations) != {1.0}:
        z *= np.array(truncations, dtype=np.float32)[:, None]
    return z
