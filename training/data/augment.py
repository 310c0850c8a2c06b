"""Augmentation for the VAE: small distortions, on which encoder and decoder are conditioned.

A VAE overfits 60,000 digits: their log-likelihood is three nats above that of test digits. Of 1,800
photos it learns each by heart. Distortions make each image many: affine ones, and for pictures in
colour those of light, too. Encoder and decoder get the amounts as a condition, which is 0 for
an undistorted image. Sampling uses no condition, so samples do not look distorted. The prior gets
no condition; it is fitted to undistorted images at the end.

Sources: Jun et al. 2020, "Distribution Augmentation for Generative Modeling"; Karras et al. 2022,
arXiv:2206.00364, appendix F.2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.vae import VAE

# Largest amounts, for the map from output to input coordinates: horizontal and vertical shift, as a
# fraction of the image's side (two pixels of 28); angle in radians; logarithm of the horizontal and
# vertical scale; shear.
LIMITS = (2 / 28, 2 / 28, 0.25, 0.15, 0.15, 0.2)
# Of light: brightness, added to all pixels; logarithms of contrast, about the image's mean, and of
# saturation, about each pixel's grey; warmth, added to red and taken from blue.
LIGHT_LIMITS = (0.15, 0.25, 0.4, 0.08)


def kinds(channels: int) -> int:
    """Number of distortions of images with so many channels: those of light need colour."""
    return len(LIMITS) + (len(LIGHT_LIMITS) if channels == 3 else 0)


def distortions(count: int, kinds: int, fraction: float, noise: torch.Generator) -> Tensor:
    """Random amounts (count, kinds) for as many images, in units of the limits, uniform in [-1, 1).

    Args:
        fraction: Probability that an image is distorted, 0 to 1; the other rows are 0.
    """
    amounts = torch.rand(count, kinds, generator=noise) * 2 - 1
    return amounts * (torch.rand(count, 1, generator=noise) < fraction)


def distorted(images: Tensor, amounts: Tensor) -> Tensor:
    """Images (B, C, H, W) in [0, 1], distorted about their centre; border pixels are repeated.

    Args:
        amounts: (B, K) from ``distortions``. A row of zeros leaves its image unchanged to the bit.
    """
    affine, light = amounts[:, : len(LIMITS)], amounts[:, len(LIMITS) :]
    affine = affine * torch.tensor(LIMITS, device=amounts.device)
    x, y, angle, across, down, shear = affine.unbind(dim=1)
    cos, sin, across, down = angle.cos(), angle.sin(), across.exp(), down.exp()
    # Rotation times shear times scale, then the shift. The side of an image is 2 in these units.
    matrix = [cos * across, (cos * shear - sin) * down, 2 * x]
    matrix += [sin * across, (sin * shear + cos) * down, 2 * y]
    grid = F.affine_grid(
        torch.stack(matrix, dim=1).view(-1, 2, 3), list(images.shape), align_corners=False
    )
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if light.shape[1]:
        moved = _lit(moved, light * torch.tensor(LIGHT_LIMITS, device=amounts.device))
    untouched = (amounts == 0).all(dim=1)[:, None, None, None]
    return torch.where(untouched, images, moved.clamp(0, 1))


def _lit(images: Tensor, amounts: Tensor) -> Tensor:
    """Images (B, 3, H, W) in another light. amounts (B, 4): as LIGHT_LIMITS."""
    brightness, contrast, saturation, warmth = amounts[:, :, None, None, None].unbind(dim=1)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * saturation.exp()
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast.exp() + brightness
    return images + warmth * torch.tensor([1.0, 0.0, -1.0], device=images.device).view(1, 3, 1, 1)


class ConditionEmbedding(nn.Module):
    """amounts (B, K) -> conditions of encoder and decoder, (B, W) each; see ``VAE.forward``.

    Not part of the served VAE. It has no bias, so the condition of an undistorted image is 0.
    """

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        width = vae.encoder.head.in_features  # the output width of the decoder's first layer too
        self.kinds = kinds(vae.config.image_channels)
        self.to_encoder = nn.Linear(self.kinds, width, bias=False)
        self.to_decoder = nn.Linear(self.kinds, width, bias=False)

    def forward(self, amounts: Tensor) -> tuple[Tensor, Tensor]:
        return self.to_encoder(amounts), self.to_decoder(amounts)
