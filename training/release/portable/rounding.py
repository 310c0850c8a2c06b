"""Rounds a layer's weights so that its sums change least, on what it gets when it is served.

To round each weight to the nearest number leaves errors that add up. Here the weights are rounded
one input after the other, and what an input's rounding changes is made good by the weights that are
not rounded yet (GPTQ: Frantar, Ashkboos, Hoefler & Alistarh 2023, arXiv:2210.17323). Before that
they are fitted, by least squares, to give what is wanted from inputs that are rounded themselves.
"""

import torch
from torch import Tensor

LARGEST = 64  # of a weight, in whole numbers: see ``rounded_weight``
# Of the mean square of the inputs: ridge, and what keeps the inverse stable. Where there are few
# calibration inputs for many weights there is more of it, by their ratio.
_DAMPING = 1e-3
_PEAKS = (0.6, 0.7, 0.8, 0.9, 1.0)  # of the largest weight, tried as the largest that is told apart


class Moments:
    """Sums over a layer's calibration inputs and wanted outputs, which need not be held at once."""

    def __init__(self) -> None:
        self._count = 0
        self._x = self._y = self._xx = self._xy = torch.zeros(())

    def add(self, x: Tensor, y: Tensor) -> None:
        """Inputs (N, I) and what is wanted of them, (N, O)."""
        x, y = x.double(), y.double()
        self._count += len(x)
        self._x, self._y = self._x + x.sum(0), self._y + y.sum(0)
        self._xx, self._xy = self._xx + x.T @ x, self._xy + x.T @ y

    def covariances(self) -> tuple[Tensor, Tensor, float]:
        """Of inputs (I, I), of inputs with outputs (I, O), and what damps the first."""
        x, y = self._x / self._count, self._y / self._count
        inputs = self._xx / self._count - x[:, None] * x
        share = _DAMPING + len(x) / self._count
        damping = share * float(inputs.diagonal().mean().clamp(min=1e-12))
        return inputs, self._xy / self._count - x[:, None] * y, damping


def rounded_weight(weight: Tensor, moments: Moments) -> tuple[Tensor, Tensor]:
    """Whole numbers (O, I) and each output's scale (O,), whose product is the weights.

    They have 7 bits, -64 to 64, because AVX2 adds products of bytes in pairs of 16 bits.

    Args:
        weight: (O, I), in floating point.
        moments: Of the layer as it is served.
    """
    covariance, cross, damping = moments.covariances()
    exact = weight.double()
    missing = cross - covariance @ exact.T
    covariance = covariance + damping * torch.eye(len(covariance), dtype=torch.float64)
    exact = exact + torch.linalg.solve(covariance, missing).T
    order = covariance.diagonal().argsort(descending=True)  # what matters most is rounded first
    covariance, exact = covariance[order][:, order], exact[:, order]
    scale = _scales(exact, covariance)
    inverse = torch.linalg.cholesky(torch.linalg.inv(covariance), upper=True)
    whole = torch.empty_like(exact)
    for place in range(exact.shape[1]):
        column = exact[:, place]
        whole[:, place] = (column / scale).round().clamp(-LARGEST, LARGEST)
        error = (column - whole[:, place] * scale) / inverse[place, place]
        exact[:, place:] -= error[:, None] * inverse[place, place:]
    return whole[:, order.argsort()].float(), scale.float()


def _scales(weight: Tensor, covariance: Tensor) -> Tensor:
    """Of each output, the scale at which rounding to the nearest changes its sums least."""
    largest = weight.abs().amax(1).clamp(min=1e-12) / LARGEST
    scales = torch.stack([part * largest for part in _PEAKS])  # (P, O)
    nearest = (weight / scales[..., None]).round().clamp(-LARGEST, LARGEST) * scales[..., None]
    error = nearest - weight
    best = ((error @ covariance) * error).sum(2).argmin(0)
    return scales.gather(0, best[None])[0]
