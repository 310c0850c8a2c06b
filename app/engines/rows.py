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
from training.networks.graph.config import GraphConfig
from training.networks.latents import label_draws
from training.networks.noise import latents_of_seeds

OperationKey = tuple[str, Operation]  # a model's name, and what it is to do
# exact: a row's bits do not depend on its batch; portable: nor on the machine, as far as the golden
# digests of its checkpoint show.
Reproducibility = Literal["portable", "exact", "visual"]

Image = NDArray[np.uint8]  # (H, W), or for a colour model (H, W, 3), with alpha (H, W, 4)
Latent = NDArray[np.float32]  # (Z,): of an imported model all its noise inputs, each in C order


class Sample(NamedTuple):
    """A row of ``generate``: a seed, and a label where the model is conditional.

    The latent is ``truncation`` (0 to 1) times the seed's normal numbers: 1 leaves them as they
    are, 0 gives the mean of the latents. ``truncated`` has it for imported models.
    """

    seed: int
    label: int | None = None
    truncation: float = 1.0


class Point(NamedTuple):
    """A row of ``generate`` with its latent (Z,) instead of a seed."""

    z: Latent
    label: int | None = None


class Picture(NamedTuple):
    """A row of ``encode`` where the model takes labels."""

    image: Image
    label: int


# mu and logvar, each (Z,); no logvar: the model encodes a picture to one latent.
Posterior = tuple[Latent, Latent | None]
# Of ``generate`` the first two; of ``decode`` a latent, of ``encode`` an image, and of conditional
# models a point and a picture.
Row = Sample | Point | Latent | Image | Picture
Result = Image | Posterior  # the second of ``encode``


def has_posterior(network: Config) -> bool:
    """Whether encode gives a distribution, with mu and logvar, and not one latent."""
    return not isinstance(network, GraphConfig) or len(network.posterior) == 2


def takes_truncation(network: Config) -> bool:
    """Whether the latents of seeds can be moved towards their mean."""
    return not isinstance(network, GraphConfig) or network.truncation


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
        network takes none.
    """
    labels = None
    if network.num_classes:
        labels = np.array([row.label for row in rows], dtype=np.int64)  # type: ignore[union-attr]
    if operation == "encode":
        images = rows if labels is None else [row.image for row in rows]  # type: ignore[union-attr]
        return from_levels(np.stack(images)), labels  # type: ignore[arg-type]
    if operation == "decode" and labels is None:
        return np.stack(rows), None  # type: ignore[arg-type]
    return _latents(rows, network), labels  # type: ignore[arg-type]


def truncated(network: Config, z: Floats, truncations: Sequence[float]) -> Floats:
    """Latents (B, Z) moved towards the mean: ``mean + truncation * (z - mean)``.

    The mean is 0. Of an imported model only the first noise input is moved, and it may have a mean
    of its own.
    """
    factors = np.array(truncations, dtype=np.float32)[:, None]
    if not isinstance(network, GraphConfig):
        return z * factors
    if not network.truncation:
        return z
    first, z = network.noise[0].size, z.copy()
    mean = np.array(network.mean_latent, dtype=np.float32) if network.mean_latent else 0
    z[:, :first] = mean + factors * (z[:, :first] - mean)
    return z


def _latents(rows: Sequence[Sample | Point], network: Config) -> Floats:
    """The latents of rows of ``generate``: (B, Z)."""
    if {type(row) for row in rows} != {Sample}:
        samples = [Sample(0) if isinstance(row, Point) else row for row in rows]
        z = _latents(samples, network)
        for index, row in enumerate(rows):
            if isinstance(row, Point):
                z[index] = row.z
        return z
    numbers, _, truncations = zip(*rows, strict=True)
    z = latents_of_seeds(network, numbers)
    return z if set(truncations) == {1.0} else truncated(network, z, truncations)
