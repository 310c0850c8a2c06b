"""How well a picture fits what a VAE knows: its rank among held-out training pictures.

Two measures of a picture: the share of its energy that the reconstruction misses,
|x - recon|^2 / |x|^2, and the distance of its mean mu from those of held-out pictures, each number
divided by its standard deviation (Mahalanobis 1936, with a diagonal covariance). Either alone is
deceived: nearly black pictures reconstruct well, and some noise is encoded near the middle. A
picture is as good as the worse of its two ranks.

Measured with mnist-vae-v5 and tables of 5,000 test digits, the median ``fit`` of other test digits
was .54; of an empty picture, noise, an inverted digit and two digits .00; of a letter .06.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = 101  # 0 %, 1 % ... 100 %
_SHARES = np.linspace(0, 1, QUANTILES)
_DIGITS = 6  # significant, of the numbers stored
_NOTHING = 1e-6  # energy of a black picture, so that its share is large instead of undefined

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class FitTable:
    """What held-out training pictures measure, as a checkpoint's header stores them.

    Raises:
        ValueError: a list has another length than it must have, falls, or has a deviation of 0.
    """

    pictures: int  # held-out pictures that were measured
    mean: Numbers  # of mu, (Z,)
    deviation: Numbers  # its standard deviation, (Z,)
    error: Numbers  # quantiles of the reconstruction's relative error
    distance: Numbers  # quantiles of the latent distance
    rank: Numbers  # quantiles of the worse of a picture's two ranks

    def __post_init__(self) -> None:
        for name in ("error", "distance", "rank"):
            numbers = getattr(self, name)
            if len(numbers) != QUANTILES:
                raise ValueError(f"{name} of its fit has {len(numbers)} quantiles, not {QUANTILES}")
            if any(one > next_one for one, next_one in itertools.pairwise(numbers)):
                raise ValueError(f"the quantiles {name} of its fit fall")
        if self.pictures < 1 or len(self.mean) != len(self.deviation) or min(self.deviation) <= 0:
            raise ValueError("its fit is not of at least 1 picture, or has a deviation of 0")

    @classmethod
    def of(
        cls, images: NDArray[Any], reconstructions: NDArray[Any], mu: NDArray[Any]
    ) -> "FitTable":
        """The table of held-out pictures; arguments as of ``fit``."""
        means = mu.mean(axis=0, dtype=np.float64)
        deviations = np.maximum(mu.std(axis=0, dtype=np.float64), 1e-6)
        error, distance = _error(images, reconstructions), _distance(mu, means, deviations)
        errors, distances = np.quantile(error, _SHARES), np.quantile(distance, _SHARES)
        worse = np.minimum(_share_above(errors, error), _share_above(distances, distance))
        ranks = np.quantile(worse, _SHARES)
        lists = map(_rounded, (means, deviations, errors, distances, ranks))
        return cls(len(images), *lists)

    def fit(
        self, images: NDArray[Any], reconstructions: NDArray[Any], mu: NDArray[Any]
    ) -> list[float]:
        """For each picture, the share of held-out training pictures that fit worse, 0 to 1.

        Args:
            images: (B, ...), of any scale.
            reconstructions: From ``mu``, likewise.
            mu: (B, Z).
        """
        means, deviations, errors, distances, ranks = self._arrays
        error, distance = _error(images, reconstructions), _distance(mu, means, deviations)
        worse = np.minimum(_share_above(errors, error), _share_above(distances, distance))
        return [round(share, 3) for share in np.interp(worse, ranks, _SHARES).tolist()]

    @cached_property
    def _arrays(self) -> list[NDArray[np.float64]]:
        return [
            np.array(numbers)
            for numbers in (self.mean, self.deviation, self.error, self.distance, self.rank)
        ]


def _error(images: NDArray[Any], reconstructions: NDArray[Any]) -> NDArray[np.float64]:
    flat = images.reshape(len(images), -1).astype(np.float64)
    missed = np.square(flat - reconstructions.reshape(len(images), -1)).sum(axis=1)
    result: NDArray[np.float64] = missed / np.maximum(np.square(flat).sum(axis=1), _NOTHING)
    return result


def _distance(
    mu: NDArray[Any], mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.sqrt(np.square((mu - mean) / deviation).mean(axis=1))
    return result


def _share_above(quantiles: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of held-out pictures above each value."""
    return 1 - np.interp(values, quantiles, _SHARES)


def _rounded(numbers: NDArray[np.float64]) -> Numbers:
    return tuple(float(f"{number:.{_DIGITS}g}") for number in numbers)
