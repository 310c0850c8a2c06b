"""A learned prior over latents: a flow that bends standard normal noise into likely latents.

A VAE's encoder does not fill N(0, I) evenly, and a decoder asked for a place that no image was
ever encoded to draws no digit. The flow is fitted to the places that are used. Source: affine
coupling, Dinh et al. 2017 (RealNVP), arXiv:1605.08803; as a VAE's prior, Xu et al. 2019,
arXiv:1905.13452; fitted after the VAE, Dai & Wipf 2019, arXiv:1903.05789.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Coupling(nn.Module):
    """Scales and shifts one half of the vector by functions of the other half, which stays."""

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


class FlowPrior(nn.Module):
    """noise (B, Z) -> z (B, Z), invertible, with a known density. No layers = N(0, I) itself."""

    def __init__(self, size: int, layers: int, hidden: int) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(_Coupling(size, hidden) for _ in range(layers))

    def forward(self, noise: Tensor) -> Tensor:
        """Standard normal noise to a draw from the prior."""
        z = noise
        for coupling in self.couplings:
            assert isinstance(coupling, _Coupling)
            kept, moved = z[:, : coupling.kept], z[:, coupling.kept :]
            log_scale, shift = coupling.scale_and_shift(kept)
            # Reversed, so that the next coupling moves what this one kept.
            z = torch.cat([kept, moved * log_scale.exp() + shift], dim=1).flip(1)
        return z

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of latents, (B, Z) -> (B,), in nats: the change of variables backwards."""
        log_det = torch.zeros(len(z), device=z.device)
        for coupling in reversed(self.couplings):
            assert isinstance(coupling, _Coupling)
            z = z.flip(1)
            kept, moved = z[:, : coupling.kept], z[:, coupling.kept :]
            log_scale, shift = coupling.scale_and_shift(kept)
            z = torch.cat([kept, (moved - shift) * (-log_scale).exp()], dim=1)
            log_det = log_det - log_scale.sum(dim=1)
        normal = -0.5 * (z.square().sum(dim=1) + z.shape[1] * math.log(2 * math.pi))
        return normal + log_det
