"""A learned prior over latents: a normalizing flow from standard normal noise to likely latents.

A VAE's encoder does not cover N(0, I) evenly, and where no training image was encoded the decoder
produces no valid image. The flow is fitted to the latents that the encoder uses. Source: affine
coupling, Dinh et al. 2017 (RealNVP), arXiv:1605.08803; learned linear maps between couplings,
Kingma & Dhariwal 2018 (Glow), arXiv:1807.03039; as a VAE's prior, Xu et al. 2019,
arXiv:1905.13452; fitted after the VAE, Dai & Wipf 2019, arXiv:1903.05789.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Coupling(nn.Module):
    """Scales and shifts one half of the vector by functions of the other, which stays as it is."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.kept = size // 2
        self.layer1 = nn.Linear(self.kept, hidden)
        self.layer2 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 2 * (size - self.kept))
        nn.init.zeros_(self.out.weight)  # each coupling starts as the identity
        nn.init.zeros_(self.out.bias)

    def scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scale in (-2, 2) and shift, each (B, size - kept)."""
        h = F.silu(self.layer1(kept))
        h = F.silu(self.layer2(h))
        log_scale, shift = self.out(h).chunk(2, dim=1)
        return 2 * torch.tanh(log_scale / 2), shift


class _Reverse(nn.Module):
    """Reverses the vector, so that the next coupling transforms the half that this one kept."""

    def forward(self, z: Tensor) -> Tensor:
        return z.flip(1)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The input vector, and the log-determinant of the inverse: 0."""
        return z.flip(1), torch.zeros((), device=z.device)


class _Linear(nn.Module):
    """A learned square matrix, initialised to the reversal."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(size).flip(0))

    def forward(self, z: Tensor) -> Tensor:
        return F.linear(z, self.weight)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The input vector, and the log-determinant of the inverse."""
        before = torch.linalg.solve(self.weight, z.T).T
        return before, -torch.linalg.slogdet(self.weight).logabsdet


class FlowPrior(nn.Module):
    """noise (B, Z) -> z (B, Z), invertible, with a known density. No layers = N(0, I) itself.

    Args:
        mixing: What follows each coupling: ``reverse`` = reversed order, ``linear`` = a learned
            matrix.
    """

    def __init__(self, size: int, layers: int, hidden: int, mixing: str = "reverse") -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(size, hidden) for _ in range(layers))
        linear = mixing == "linear"
        self.mixings = nn.ModuleList(_Linear(size) if linear else _Reverse() for _ in range(layers))

    def forward(self, noise: Tensor) -> Tensor:
        """Standard normal noise to a draw from the prior."""
        z = noise
        for coupling, mixing in zip(self.couplings, self.mixings, strict=True):
            assert isinstance(coupling, Coupling)
            kept, moved = z[:, : coupling.kept], z[:, coupling.kept :]
            log_scale, shift = coupling.scale_and_shift(kept)
            z = mixing(torch.cat([kept, moved * log_scale.exp() + shift], dim=1))
        return z

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of latents, (B, Z) -> (B,), in nats, by change of variables."""
        log_det = torch.zeros(len(z), device=z.device)
        for coupling, mixing in zip(reversed(self.couplings), reversed(self.mixings), strict=True):
            assert isinstance(coupling, Coupling)
            assert isinstance(mixing, _Reverse | _Linear)
            z, log_change = mixing.inverse(z)
            kept, moved = z[:, : coupling.kept], z[:, coupling.kept :]
            log_scale, shift = coupling.scale_and_shift(kept)
            z = torch.cat([kept, (moved - shift) * (-log_scale).exp()], dim=1)
            log_det = log_det + log_change - log_scale.sum(dim=1)
        normal = -0.5 * (z.square().sum(dim=1) + z.shape[1] * math.log(2 * math.pi))
        return normal + log_det
