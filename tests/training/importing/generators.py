"""Small generators as users write them, sound and faulty."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Flat(nn.Module):
    """Rows of pixels by tanh."""

    def __init__(self, latent: int = 5, hidden: int = 6) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(latent, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 16), nn.Tanh()
        )

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.model(z)
        return images


class Convolutional(nn.Module):
    """Latents (2, 1, 1) and one-hot labels to RGB images, with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(5, 4, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.Tanh()
        )

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        images: Tensor = self.layers(torch.cat([z, label[:, :, None, None]], 1))
        return images


class Autoencoder(nn.Module):
    """A VAE whose methods are named as those of pytorch's examples."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(16, 6), nn.Linear(3, 16)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = self.inner(x).chunk(2, 1)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.outer(z))


class ConditionalAutoencoder(Autoencoder):
    """A conditional VAE: the class is a one-hot row beside the pixels and beside the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(16 + 2, 6), nn.Linear(3 + 2, 16)

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().encode(torch.cat([x, y], 1))

    def decode(self, z: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return super().decode(torch.cat([z, y], 1))


class LabelFirst(nn.Module):
    """The class comes before the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(2, 3), nn.Linear(5, 16)

    def forward(self, labels: Tensor, z: Tensor) -> Tensor:
        return torch.tanh(self.layer(torch.cat([z, self.table(labels)], 1)))


class WithDropout(Flat):
    def forward(self, z: Tensor) -> Tensor:
        return F.dropout(super().forward(z))  # training=True is its default


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class DrawsInside(Flat):
    def __init__(self) -> None:
        super().__init__()
        self.noisy = Inner()

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.noisy(super().forward(z))
        return images


class WithoutAverages(Flat):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16, track_running_stats=False)


class NormalisesByBatch(Flat):
    def forward(self, z: Tensor) -> Tensor:
        images = super().forward(z)
        return torch.tanh(images - images.mean(0, keepdim=True))


class FixedBatch(Flat):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z).view(2, 1, 4, 4)


class Branches(Flat):
    def forward(self, z: Tensor) -> Tensor:
        images = super().forward(z)
        return images if z.sum() > 0 else -images


class NotFinite(Flat):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z) / 0


class Unbounded(Flat):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z) * 300


class NoImage(Flat):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z)[:, :7]


class LabelAsImage(nn.Module):
    """Latents (2, 1, 1) and one-hot labels (3, 1, 1), as conditional DCGANs take them."""

    def __init__(self) -> None:
        super().__init__()
        self.noise, self.label = nn.ConvTranspose2d(2, 4, 4), nn.ConvTranspose2d(3, 4, 4)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return torch.tanh((self.noise(z) + self.label(y))[:, :1])


class Changed(Flat):
    """What it returns is made of its images."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.change = change

    def forward(self, z: Tensor) -> Any:
        return self.change(super().forward(z))


@dataclass
class Held:
    """An output as of libraries."""

    rgb: Tensor
    loss: float = 0.0


class Chooses(Flat):
    """Signs of numbers, a few of which are so near to 0 that an engine's rounding decides."""

    def __init__(self, near: float) -> None:
        super().__init__()
        self.near = near

    def forward(self, z: Tensor) -> Tensor:
        """In torch the sign of what is near is turned; in the graph it is not."""
        x = super().forward(z)
        turned = not torch.compiler.is_exporting()
        return torch.where((x[:, :1].abs() < self.near) & turned, -x, x)
