"""The variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114)."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.configs import VaeConfig
from training.networks.prior import FlowPrior
from training.networks.tone import apply_curve


class ResidualBlock(nn.Module):
    """x + conv3x3(silu(conv3x3(silu(x)))), no normalisation: rows of a batch are independent."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # each block starts as the identity

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv1(F.silu(x))
        h = self.conv2(F.silu(h))
        return x + h


class ShortBlock(nn.Module):
    """relu(x + conv3x3(x)), which is one convolution when it is served."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv.weight)  # each block starts near the identity

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv(x))


def _maps(config: VaeConfig, channels: int, count: int) -> list[nn.Module]:
    """What follows a layer that gives maps: blocks and an activation."""
    if config.architecture == "compact":
        return [nn.ReLU(), *(ShortBlock(channels) for _ in range(count))]
    return [*(ResidualBlock(channels) for _ in range(count)), nn.SiLU()]


def _dense(widths: tuple[int, ...]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers


class Encoder(nn.Module):
    """images (B, C, H, W) in [0, 1] -> (mu, logvar), each (B, Z).

    ``condition`` (B, W), as wide as the input of ``head``, is added to that before its activation.
    """

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        pixels = config.image_channels * config.image_size**2
        layers: list[nn.Module]
        if config.architecture == "dense":
            layers = [nn.Flatten(), *_dense((pixels, *config.channels))]
            features = config.channels[-1]
        else:
            activation = nn.ReLU if config.architecture == "compact" else nn.SiLU
            layers, inputs = [], config.image_channels
            for width, count in zip(config.channels, config.blocks, strict=True):
                conv = nn.Conv2d(inputs, width, 4, stride=2, padding=1)
                layers += [conv, *_maps(config, width, count)]  # (B, width, H/2, W/2)
                inputs = width
            side = config.image_size >> len(config.channels)
            layers += [nn.Flatten(), nn.Linear(inputs * side * side, config.hidden), activation()]
            features = config.hidden
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(features, 2 * config.latent_dim)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        *layers, activation = self.trunk
        features = images * 2 - 1
        for layer in layers:
            features = layer(features)
        if condition is not None:
            features = features + condition
        mu, logvar = self.head(activation(features)).chunk(2, dim=1)
        # e^-10 to e^10: beyond any posterior seen on images, and the exponential stays finite.
        return mu, logvar.clamp(-10, 10)


class Decoder(nn.Module):
    """z (B, Z) -> logits (B, C, H, W) of the Bernoulli mean of each pixel.

    ``condition`` (B, W), as wide as the first layer's output, is added before its activation.
    """

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        shape = (config.image_channels, config.image_size, config.image_size)
        if config.architecture == "dense":
            widths = (config.latent_dim, *reversed(config.channels))
            self.trunk = nn.Sequential(
                *_dense(widths), nn.Linear(widths[-1], math.prod(shape)), nn.Unflatten(1, shape)
            )
        else:
            activation = nn.ReLU if config.architecture == "compact" else nn.SiLU
            widths = config.channels[::-1]
            side = config.image_size >> len(widths)
            layers: list[nn.Module] = [
                nn.Linear(config.latent_dim, config.hidden),
                activation(),
                nn.Linear(config.hidden, widths[0] * side * side),
                nn.Unflatten(1, (widths[0], side, side)),
            ]
            after = (*widths[1:], config.image_channels)
            for width, count, wanted in zip(widths, config.blocks[::-1], after, strict=True):
                layers += _maps(config, width, count)
                # (B, wanted, 2 H, 2 W)
                layers += [nn.Conv2d(width, 4 * wanted, 3, padding=1), nn.PixelShuffle(2)]
            self.trunk = nn.Sequential(*layers)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        first, *layers = self.trunk
        logits: Tensor = first(z)
        if condition is not None:
            logits = logits + condition
        for layer in layers:
            logits = layer(logits)
        return logits


class VAE(nn.Module):
    """Encoder, decoder and prior on z: learned (``prior_layers`` > 0) or N(0, I)."""

    num_classes = 0

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.latent_dim = config.latent_dim
        self.image_shape = config.image_shape
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.prior = FlowPrior(
            config.latent_dim, config.prior_layers, config.prior_hidden, config.prior_mixing
        )

    def forward(
        self,
        images: Tensor,
        noise: Tensor,
        conditions: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A training pass with the reparametrisation z = mu + noise * exp(logvar / 2).

        Args:
            images: (B, C, H, W) in [0, 1].
            noise: (B K, Z), standard normal, from the caller's generator: K draws an image (usually
                1), consecutive rows for one image.
            conditions: For encoder and decoder; see there. None = none.

        Returns:
            logits of the pixels (B K, C, H, W), mu (B K, Z), logvar (B K, Z): one row a draw.

        Source: Kingma & Welling 2014, section 2.4.
        """
        to_encoder, to_decoder = conditions
        mu, logvar = self.encoder(images, to_encoder)
        draws = len(noise) // len(images)
        if draws > 1:
            mu, logvar = (stats.repeat_interleave(draws, dim=0) for stats in (mu, logvar))
            to_decoder = None if to_decoder is None else to_decoder.repeat_interleave(draws, dim=0)
        logits = self.decoder(mu + noise * torch.exp(logvar / 2), to_decoder)
        return logits, mu, logvar

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, C, H, W) in [0, 1] -> the posterior's mu and logvar, each (B, Z)."""
        mu, logvar = self.encoder(images)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        """z (B, Z) -> pixels (B, C, H, W) in [0, 1]: their means, through the tone curve if any."""
        means = torch.sigmoid(self.decoder(z))
        return apply_curve(means, self.config.tone) if self.config.tone else means

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """What serving calls: map standard normal z (B, Z) through the prior, then decode.

        Raises:
            ValueError: labels are given; a VAE is unconditional.
        """
        if labels is not None:
            raise ValueError("a VAE takes no labels")
        return self.decode(self.prior(z))

    def before_curve(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """The same without the tone curve."""
        del labels
        return torch.sigmoid(self.decoder(self.prior(z)))
