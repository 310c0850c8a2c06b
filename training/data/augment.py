"""Training images moved, turned, scaled and sheared a little, which the VAE is told of.

A VAE learns 60,000 digits by heart: it gives them three nats more than others of their kind
(docs/log.md). Distorted, each is many. What was done to an image is told to encoder and decoder as
numbers that are 0 for an image as it is, so what is sampled, for which nothing is told, need not
look distorted. The prior is not told: it has to be fitted to images as they are at the end.

Sources: Jun et al. 2020, "Distribution Augmentation for Generative Modeling"; Karras et al. 2022,
arXiv:2206.00364, appendix F.2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.vae import VAE

# The most that is done, of the map from a place in the result to where it comes from: shift across
# and down, in parts of the image's side (two pixels of 28); angle, in radians; logarithm of the
# scale across and down; shear.
LIMITS = (2 / 28, 2 / 28, 0.25, 0.15, 0.15, 0.2)


def distortions(count: int, fraction: float, noise: torch.Generator) -> Tensor:
    """(count, 6): what to do to each image, in parts of LIMITS, uniform in [-1, 1).

    Args:
        fraction: Chance of a row, 0 to 1; the others are all 0.
    """
    amounts = torch.rand(count, len(LIMITS), generator=noise) * 2 - 1
    return amounts * (torch.rand(count, 1, generator=noise) < fraction)


def distorted(images: Tensor, amounts: Tensor) -> Tensor:
    """Images (B, C, H, W) in [0, 1], distorted about their middle; beyond an edge its pixels go on.

    Args:
        amounts: (B, 6) as ``distortions`` draws them. A row of zeros leaves its image to the bit.
    """
    amounts = amounts * torch.tensor(LIMITS, device=amounts.device)
    x, y, angle, across, down, shear = amounts.unbind(dim=1)
    cos, sin, across, down = angle.cos(), angle.sin(), across.exp(), down.exp()
    # Rotation times shear times scale, and the shift beside it. A side is 2 long.
    matrix = [cos * across, (cos * shear - sin) * down, 2 * x]
    matrix += [sin * across, (sin * shear + cos) * down, 2 * y]
    places = F.affine_grid(
        torch.stack(matrix, dim=1).view(-1, 2, 3), list(images.shape), align_corners=False
    )
    moved = F.grid_sample(images, places, padding_mode="border", align_corners=False)
    untouched = (amounts == 0).all(dim=1)[:, None, None, None]
    return torch.where(untouched, images, moved.clamp(0, 1))


class Teller(nn.Module):
    """amounts (B, 6) -> what encoder and decoder are told, (B, W) each; see ``VAE.forward``.

    No part of the VAE that is served: it has no bias, so an image as it is adds nothing.
    """

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        width = vae.encoder.head.in_features  # the decoder's first layer has the same
        self.to_encoder = nn.Linear(len(LIMITS), width, bias=False)
        self.to_decoder = nn.Linear(len(LIMITS), width, bias=False)

    def forward(self, amounts: Tensor) -> tuple[Tensor, Tensor]:
        return self.to_encoder(amounts), self.to_decoder(amounts)
