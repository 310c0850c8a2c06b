"""Configurations of the servable networks, as a checkpoint's header stores them. Needs no torch.

Every config has ``latent_dim``, ``num_classes`` (0 = unconditional) and ``image_shape``.
"""

import itertools
from dataclasses import dataclass

from training.networks.graph.config import GraphConfig
from training.networks.graph.config import Operation as Operation

# A piecewise linear map of pixel values: its knots (x, y), both increasing; constant beyond the
# ends. () = none.
Curve = tuple[tuple[float, float], ...]
MAX_KNOTS = 16
MAX_OFFSET = 10.0  # of a mode; normal numbers do not reach further
MOST_STAGES = 6  # of a convolutional network

GAN_ARCHITECTURES = ("dense", "dcgan", "compact")
VAE_ARCHITECTURES = ("dense", "conv", "compact")
PRIOR_MIXINGS = ("reverse", "linear")


def check_curve(curve: Curve) -> None:
    """Refuse a curve whose arithmetic could overflow, or that leaves the range of pixels.

    Raises:
        ValueError: it is not increasing, too steep, too flat, too long or out of range.
    """
    if not curve:
        return
    if not 2 <= len(curve) <= MAX_KNOTS:
        raise ValueError(f"the tone curve has {len(curve)} knots; allowed: 2 to {MAX_KNOTS}")
    # Written so that a NaN fails it.
    if not all(-1 <= x <= 2 and 0 <= y <= 1 for x, y in curve):
        raise ValueError("a knot of the tone curve is not within -1 to 2 and 0 to 1")
    for (left, below), (x, y) in itertools.pairwise(curve):
        if not (x > left and 1e-3 <= (y - below) / (x - left) <= 1e3):
            raise ValueError(
                f"the tone curve's slope from {left} to {x} is not within 0.001 to 1000"
            )


def check_stages(architecture: str, widths: tuple[int, ...], size: int) -> None:
    """Refuse widths by which a convolutional network cannot halve or double its maps.

    Raises:
        ValueError: too few or too many, or the image's side is not a multiple of 2 to their number.
    """
    if not 2 <= len(widths) <= MOST_STAGES:
        raise ValueError(f"{architecture} takes 2 to {MOST_STAGES} widths, got {widths}")
    if size % 2 ** len(widths):
        raise ValueError(
            f"image_size {size} is not a multiple of {2 ** len(widths)}, which the "
            f"{len(widths)} widths {widths} halve"
        )


@dataclass(frozen=True)
class GanConfig:
    """Shape of a generator."""

    architecture: str = "compact"  # one of GAN_ARCHITECTURES
    latent_dim: int = 64  # length of z
    num_classes: int = 0  # label classes; 0 = unconditional
    image_channels: int = 1  # 1 = grey, 3 = RGB
    image_size: int = 28  # pixels a side; a multiple of 2^n for n convolutional widths
    # Generator widths: dense layers, or maps from the smallest to those at H/2: at H/4 and H/2.
    channels: tuple[int, ...] = (40, 24)
    tone: Curve = ()  # maps values to pixels, fitted after training; () = clamp only
    modes: int = 0  # unconditional: the first so many numbers of z select a mode; 0 = none
    # Added to these numbers, so that modes differ in frequency; () = all equally frequent.
    mode_offsets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.architecture not in GAN_ARCHITECTURES:
            raise ValueError(
                f"unknown architecture {self.architecture!r}; "
                f"available: {', '.join(GAN_ARCHITECTURES)}"
            )
        if self.architecture != "dense":
            check_stages(self.architecture, self.channels, self.image_size)
        if self.modes and not 2 <= self.modes <= self.latent_dim:
            raise ValueError(
                f"modes is {self.modes}; allowed: 0, or 2 to the {self.latent_dim} numbers of z"
            )
        if self.modes and self.num_classes:
            raise ValueError("a conditional generator (num_classes > 0) has no modes")
        if self.mode_offsets and len(self.mode_offsets) != self.modes:
            raise ValueError(f"{len(self.mode_offsets)} mode_offsets for {self.modes} modes")
        if not all(abs(offset) <= MAX_OFFSET for offset in self.mode_offsets):  # a NaN is not
            raise ValueError(f"mode_offsets are not within -{MAX_OFFSET} to {MAX_OFFSET}")
        check_curve(self.tone)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.image_channels, self.image_size, self.image_size


@dataclass(frozen=True)
class VaeConfig:
    """Shape of encoder and decoder."""

    architecture: str = "conv"  # one of VAE_ARCHITECTURES
    latent_dim: int = 32  # length of z
    image_channels: int = 1  # 1 = grey, 3 = RGB
    image_size: int = 28  # pixels a side; a multiple of 2^n for n convolutional widths
    channels: tuple[int, ...] = (24, 40)  # dense: hidden widths; else: maps at H/2, H/4, ...
    blocks: tuple[int, ...] = (1, 1)  # conv, compact: residual blocks at each of these
    hidden: int = 256  # conv, compact: width of the layer between maps and latent
    prior_layers: int = 0  # couplings of the learned prior; 0 = N(0, I)
    prior_hidden: int = 128  # width of their layers
    prior_mixing: str = "reverse"  # between couplings, one of PRIOR_MIXINGS
    tone: Curve = ()  # maps means to pixels, fitted after training; () = pixels are the means

    def __post_init__(self) -> None:
        if self.architecture not in VAE_ARCHITECTURES:
            raise ValueError(
                f"unknown architecture {self.architecture!r}; "
                f"available: {', '.join(VAE_ARCHITECTURES)}"
            )
        if not 0 <= self.prior_layers <= 64:
            raise ValueError(f"prior_layers is {self.prior_layers}; allowed: 0 to 64")
        if self.prior_mixing not in PRIOR_MIXINGS:
            raise ValueError(
                f"unknown prior_mixing {self.prior_mixing!r}; available: {', '.join(PRIOR_MIXINGS)}"
            )
        if self.prior_layers and self.latent_dim < 2:
            raise ValueError("a learned prior needs a latent_dim of at least 2")
        if self.architecture != "dense":
            check_stages(self.architecture, self.channels, self.image_size)
            stages = len(self.channels)
            if len(self.blocks) != stages or not all(0 <= count <= 16 for count in self.blocks):
                raise ValueError(
                    f"{self.architecture} with {stages} widths takes {stages} numbers of blocks, "
                    f"each 0 to 16, got {self.blocks}"
                )
        check_curve(self.tone)

    @property
    def num_classes(self) -> int:
        """None: a VAE takes no labels."""
        return 0

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.image_channels, self.image_size, self.image_size


NetworkConfig = GanConfig | VaeConfig  # of the networks that ``training.networks.build`` builds
Config = NetworkConfig | GraphConfig

CONFIGS: dict[str, type[NetworkConfig]] = {
    "gan": GanConfig,
    "cgan": GanConfig,
    "vae": VaeConfig,
}
GRAPH = "graph"  # the kind of a checkpoint that has graphs alone, imported from elsewhere
KINDS = (*CONFIGS, GRAPH)
