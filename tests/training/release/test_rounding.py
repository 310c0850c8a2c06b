"""Weights rounded so that a layer's sums change least."""

import torch
from torch import Tensor

from training.release.portable.rounding import LARGEST, Moments, rounded_weight


def layer(count: int, inputs: int = 40, outputs: int = 6) -> tuple[Tensor, Tensor]:
    """Weights (O, I), and bytes (N, I) that depend on each other, as a picture's pixels do."""
    random = torch.Generator().manual_seed(5)
    weight = torch.randn(outputs, inputs, generator=random)
    factors = torch.randn(inputs, 6, generator=random)
    x = 60 + 25 * (torch.randn(count, 6, generator=random) @ factors.T)
    return weight, (x + torch.randn(count, inputs, generator=random)).round().clamp(0, 255)


def of(x: Tensor, y: Tensor) -> Moments:
    moments = Moments()
    for part in zip(x.split(100), y.split(100), strict=True):
        moments.add(*part)
    return moments


def missed(weight: Tensor, x: Tensor, wanted: Tensor) -> float:
    """The mean squared error of the sums, but for their means, which a bias makes good."""
    error = x @ weight.T - wanted
    return float((error - error.mean(0)).square().mean())


def nearest(weight: Tensor) -> Tensor:
    scale = weight.abs().amax(1, keepdim=True) / LARGEST
    return (weight / scale).round() * scale


def test_the_sums_change_less_than_by_rounding_to_the_nearest() -> None:
    weight, x = layer(2000)
    whole, scale = rounded_weight(weight, of(x, x @ weight.T))
    assert bool((whole == whole.round()).all())
    assert float(whole.abs().max()) <= LARGEST
    usual = missed(nearest(weight), x, x @ weight.T)
    assert missed(whole * scale[:, None], x, x @ weight.T) < 0.5 * usual


def test_what_rounded_inputs_miss_is_made_good() -> None:
    weight, exact = layer(2000)
    served = (exact / 16).round() * 16  # coarser than what the weights were trained on
    wanted = exact @ weight.T
    whole, scale = rounded_weight(weight, of(served, wanted))
    assert missed(whole * scale[:, None], served, wanted) < missed(weight, served, wanted)


def test_few_calibration_inputs_do_not_bend_the_weights() -> None:
    weight, x = layer(20)
    _, others = layer(3000)
    whole, scale = rounded_weight(weight, of(x, x @ weight.T))
    wanted = others @ weight.T
    usual = missed(nearest(weight), others, wanted)
    assert missed(whole * scale[:, None], others, wanted) < 2 * usual


def test_inputs_that_never_change_are_rounded_too() -> None:
    weight, x = layer(500)
    x[:, ::2] = 0
    whole, scale = rounded_weight(weight, of(x, x @ weight.T))
    assert bool(torch.isfinite(scale).all())
    usual = missed(nearest(weight), x, x @ weight.T)
    assert missed(whole * scale[:, None], x, x @ weight.T) <= usual
