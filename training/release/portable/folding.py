"""Folds batch norms into the layers before them, and x + conv(x) into the convolution."""

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from training.networks.gan import ResidualBlock


def with_identity(weight: Tensor) -> Tensor:
    """The weights (C, C, h, h) of x + conv(x)."""
    channels, middle = range(len(weight)), weight.shape[-1] // 2
    weight = weight.detach().clone()
    weight[channels, channels, middle, middle] += 1
    return weight


class FoldedResidual(nn.Module):
    """``ResidualBlock`` in eval mode as one convolution: relu(conv(x))."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.conv = fuse_conv_bn_eval(block.conv, block.norm)
        self.conv.weight = nn.Parameter(with_identity(self.conv.weight))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


def folded(layers: nn.Sequential) -> nn.Sequential:
    """The same function as a sequence in eval mode, with fewer layers."""
    found: list[nn.Module] = []
    for layer in layers:
        last = found[-1] if found else None
        if isinstance(layer, ResidualBlock):
            found.append(FoldedResidual(layer))
        elif isinstance(layer, nn.BatchNorm2d) and isinstance(last, nn.Conv2d | nn.ConvTranspose2d):
            transposed = isinstance(last, nn.ConvTranspose2d)
            found[-1] = fuse_conv_bn_eval(last, layer, transpose=transposed)
        elif isinstance(layer, nn.BatchNorm2d) and isinstance(last, nn.Unflatten):
            # The norm has one number for each map, the linear layer one for each pixel of it.
            linear = found[-2]
            assert isinstance(linear, nn.Linear)
            found[-2] = fuse_linear_bn_eval(linear, _spread(layer, linear.out_features))
        else:
            found.append(layer)
    return nn.Sequential(*found)


def _spread(norm: nn.BatchNorm2d, features: int) -> nn.BatchNorm1d:
    """The norm of C maps as a norm of all their pixels."""
    wide = nn.BatchNorm1d(features, norm.eps).eval()
    for name in ("weight", "bias", "running_mean", "running_var"):
        numbers: Tensor = getattr(norm, name)
        getattr(wide, name).data = numbers.detach().repeat_interleave(features // len(numbers))
    return wide
