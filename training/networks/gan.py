"""Generators and discriminators of GAN and conditional GAN, in three architectures.

``dense`` is the fully connected textbook shape, ``dcgan`` follows Radford et al. 2015
(arXiv:1511.06434), and ``compact`` is this project's: narrow, sub-pixel output, cheap on a CPU.
``num_classes = 0`` means unconditional; otherwise both networks are conditioned on the label
(Mirza & Osindero 2014, arXiv:1411.1784).
"""

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from training.networks.configs import MOST_STAGES, GanConfig
from training.networks.tone import apply_curve


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Shape of a discriminator, beside its generator's GanConfig. Checkpoints do not store it."""

    # Widths from the image inwards, each after halving the maps: H/2, H/4, H/8; at least 2.
    channels: tuple[int, ...] = (32, 64, 128)
    spectral_norm: bool = False  # of every weight (Miyato et al. 2018, arXiv:1802.05957)
    residual: bool = False  # compact, dcgan: one more 3x3 convolution before the last, x + conv(x)
    classifier: bool = False  # a second head that predicts the class (Odena et al. 2017)

    def __post_init__(self) -> None:
        if not 2 <= len(self.channels) <= MOST_STAGES:
            raise ValueError(
                f"the discriminator takes 2 to {MOST_STAGES} widths, got {self.channels}"
            )


def append_label(x: Tensor, labels: Tensor | None, num_classes: int) -> Tensor:
    """Append the one-hot label to each row: (B, N) -> (B, N + K); unchanged when K is 0.

    Raises:
        ValueError: labels are given to an unconditional network, or missing from a conditional one.
    """
    if (labels is not None) != bool(num_classes):
        raise ValueError(
            f"a network with num_classes={num_classes} was called "
            f"{'with' if labels is not None else 'without'} labels"
        )
    if labels is None:
        return x
    return torch.cat([x, F.one_hot(labels, num_classes).to(x.dtype)], dim=1)


def stretched_tanh(logits: Tensor) -> Tensor:
    """Logits of any shape to [-0.05, 1.05]: a tanh stretched_tanh by 10 %, to be clamped to [0, 1].

    81 % of an MNIST digit's pixels are exactly black, which a plain tanh or sigmoid only
    approaches; the stretch lets the network reach both ends with finite logits.
    """
    return 0.5 + 0.55 * torch.tanh(logits)


class ResidualBlock(nn.Module):
    """x + BN(conv3x3(x)), then ReLU: one 3x3 convolution, so half a usual block's cost."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.conv(x)))


def _dense_trunk(config: GanConfig, inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in config.channels:
        layers += [nn.Linear(inputs, width), nn.LeakyReLU(0.2)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def _first_maps(config: GanConfig, inputs: int) -> list[nn.Module]:
    """Rows (B, N) to the smallest maps, each side of which every later width doubles."""
    width, side = config.channels[0], config.image_size >> len(config.channels)
    return [
        nn.Linear(inputs, width * side * side, bias=False),
        nn.Unflatten(1, (width, side, side)),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]


def _dcgan_trunk(config: GanConfig, inputs: int) -> nn.Sequential:
    layers = _first_maps(config, inputs)
    for before, width in itertools.pairwise(config.channels):
        layers += [
            nn.ConvTranspose2d(before, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]  # (B, width, 2 H, 2 W)
    last = config.channels[-1]
    return nn.Sequential(
        *layers,
        nn.ConvTranspose2d(last, config.image_channels, 4, stride=2, padding=1),  # (B, C, H, W)
    )


def _compact_trunk(config: GanConfig, inputs: int) -> nn.Sequential:
    layers = [*_first_maps(config, inputs), ResidualBlock(config.channels[0])]
    for before, width in itertools.pairwise(config.channels):
        layers += [
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(before, width, 3, padding=1, bias=False),  # (B, width, 2 H, 2 W)
            nn.BatchNorm2d(width),
            nn.ReLU(),
            ResidualBlock(width),
        ]
    return nn.Sequential(
        *layers,
        # Sub-pixel output (Shi et al. 2016, arXiv:1609.05158): no layer runs at full resolution.
        nn.Conv2d(config.channels[-1], 4 * config.image_channels, 3, padding=1),
        nn.PixelShuffle(2),  # (B, C, H, W)
    )


# Factor of the logits of the softmax that selects a mode. With it 4 % of normal z are mixtures of
# two modes (neither has more than 0.9). The softmax stays sharp when truncation scales z down.
SHARPNESS = 100.0


def select_mode(z: Tensor, modes: int) -> Tensor:
    """The first ``modes`` numbers of each row of z (B, Z) through a sharp softmax; 0 = unchanged.

    Classes of images are disjoint, but a continuous map from one Gaussian also produces images
    between two classes. With the softmax, the largest of these numbers selects one mode, almost as
    a step function, and the rest of z determines the style. A mixture latent as in InfoGAN (Chen et
    al. 2016, arXiv:1606.03657), while z itself stays normal.
    """
    if not modes:
        return z
    return torch.cat([F.softmax(SHARPNESS * z[:, :modes], dim=1), z[:, modes:]], dim=1)


class Generator(nn.Module):
    """z (and a label) to an image. Batch norm: batch statistics in training, averages in eval."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        self.latent_dim = config.latent_dim
        self.num_classes = config.num_classes
        self.image_shape = config.image_shape
        self.offsets: Tensor | None  # added to z, (Z,); 0 for numbers that select no mode
        offsets = None
        if config.mode_offsets:
            rest = [0.0] * (config.latent_dim - config.modes)
            # On the CPU even when building on the meta device: it comes from the config.
            offsets = torch.tensor([*config.mode_offsets, *rest], device="cpu")
        self.register_buffer("offsets", offsets, persistent=False)
        inputs = config.latent_dim + config.num_classes
        if config.architecture == "dense":
            self.trunk = _dense_trunk(config, inputs, math.prod(self.image_shape))
        elif config.architecture == "dcgan":
            self.trunk = _dcgan_trunk(config, inputs)
        else:
            self.trunk = _compact_trunk(config, inputs)
        if config.architecture != "dense":
            # N(0, 0.02) for every weight, as Radford et al. 2015, section 4.
            for module in self.modules():
                if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                    nn.init.normal_(module.weight, std=0.02)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """z (B, Z), labels (B,) int64 or None -> pixels (B, C, H, W) in [0, 1]."""
        return apply_curve(self.before_curve(z, labels), self.config.tone)

    def before_curve(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Values before the tone curve or clamp: (B, C, H, W) in [-0.05, 1.05]."""
        z = select_mode(self._offset(z), self.config.modes)
        logits = self.trunk(append_label(z, labels, self.num_classes))
        return stretched_tanh(logits.view(-1, *self.image_shape))

    def chosen_modes(self, z: Tensor) -> Tensor:
        """The mode that each row of z (B, Z) selects: (B,) int64."""
        return self._offset(z)[:, : self.config.modes].argmax(dim=1)

    def _offset(self, z: Tensor) -> Tensor:
        return z if self.offsets is None else z + self.offsets

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """What serving calls: the same as forward."""
        pixels: Tensor = self(z, labels)
        return pixels


class MinibatchStddev(nn.Module):
    """Append one map: the standard deviation across the batch, averaged over all features.

    (B, C, H, W) -> (B, C + 1, H, W). It lets the discriminator see when fakes lack variety.
    Source: Karras et al. 2018, arXiv:1710.10196, section 3 (one group: the whole batch).
    """

    def batch_mean(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (C, H, W); ``optim.distributed`` extends it over several processes."""
        return x.mean(dim=0)

    def forward(self, x: Tensor) -> Tensor:
        # Two means: torch's var over the first dimension takes five times as long on a CPU.
        values = x.float()
        variance = self.batch_mean((values - self.batch_mean(values)).square())  # (C, H, W)
        spread = (variance + 1e-8).sqrt().mean().to(x.dtype)
        return torch.cat([x, spread.expand(len(x), 1, *x.shape[2:])], dim=1)


class _DiscriminatorBlock(nn.Module):
    """x + conv3x3(x), then LeakyReLU."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.conv(x), 0.2)


class Discriminator(nn.Module):
    """An image (and its label) to one logit: high = real.

    The conditional form adds a projection of the features on the label's embedding (Miyato &
    Koyama 2018, arXiv:1802.05637), so that the logit depends on the label too; with ``classifier``
    it also predicts the class (Odena et al. 2017, arXiv:1610.09585). A generator's modes count as
    labels here. ``dense`` flattens its input and uses dropout, active only in training.
    """

    def __init__(self, config: GanConfig, own: DiscriminatorConfig) -> None:
        super().__init__()
        self.num_classes = config.num_classes or config.modes
        widths = own.channels
        normalise = spectral_norm if own.spectral_norm else nn.Identity()
        layers: list[nn.Module]
        if config.architecture == "dense":
            layers = [nn.Flatten()]
            inputs = config.image_channels * config.image_size**2
            for width in widths:
                layers += [normalise(nn.Linear(inputs, width)), nn.LeakyReLU(0.2), nn.Dropout(0.3)]
                inputs = width
            self.features = nn.Sequential(*layers)
        else:
            *before, last = widths
            layers, inputs, side = [], config.image_channels, config.image_size
            for width in before:
                conv = nn.Conv2d(inputs, width, 4, stride=2, padding=1)
                layers += [normalise(conv), nn.LeakyReLU(0.2)]  # (B, width, H/2, W/2)
                inputs, side = width, side // 2
            if own.residual:
                layers += [_DiscriminatorBlock(normalise(nn.Conv2d(inputs, inputs, 3, padding=1)))]
            self.features = nn.Sequential(
                *layers,
                MinibatchStddev(),
                normalise(nn.Conv2d(inputs + 1, last, 3, stride=2, padding=1)),
                nn.LeakyReLU(0.2),  # (B, last, H/2, W/2), rounded up
                nn.Flatten(),
            )
            inputs = last * math.ceil(side / 2) ** 2
        self.head = normalise(nn.Linear(inputs, 1))
        if self.num_classes:
            self.label_embedding = normalise(nn.Linear(self.num_classes, inputs, bias=False))
        self.classes = None
        if self.num_classes and own.classifier:
            self.classes = nn.Linear(inputs, self.num_classes)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """images (B, C, H, W) in [0, 1], labels (B,) or None -> logits (B,)."""
        return self.with_classes(images, labels)[0]

    def with_classes(
        self, images: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The same, and the class logits (B, K) of the classifier head; None without one."""
        features = self.features(images * 2 - 1)  # (B, N); zero-centred, as initialisation expects
        logits: Tensor = self.head(features).squeeze(1)
        if (labels is not None) != bool(self.num_classes):
            raise ValueError(f"labels do not fit a discriminator of {self.num_classes} classes")
        if labels is not None:
            one_hot = F.one_hot(labels, self.num_classes).to(features.dtype)
            logits = logits + (self.label_embedding(one_hot) * features).sum(dim=1)
        return logits, self.classes(features) if self.classes is not None else None
