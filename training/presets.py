"""PRESETS: network shapes and settings that work together, by kind and name."""

import dataclasses
from typing import Any

from training.config import AnyRun, GanRun, VaeRun
from training.networks.configs import GanConfig, VaeConfig
from training.networks.gan import DiscriminatorConfig

# The shape of public tutorials: noise of 100 numbers, then 256-512-1024-784.
_DENSE = GanConfig(
    architecture="dense",
    latent_dim=100,
    channels=(256, 512, 1024),
)
# Radford et al. 2015, cut to two doublings because digits are 28 pixels wide.
_DCGAN = GanConfig(
    architecture="dcgan",
    latent_dim=100,
    channels=(128, 64),
)
_PUBLISHED = GanRun(
    # ONNX Runtime computes channels in blocks of 16: 48 and 16 cost .6 of 40 and 24 there.
    network=GanConfig(channels=(48, 16)),
    epochs=24,
    batch_size=32,
    generator_lr=4e-4,
    discriminator_lr=4e-4,
    r1_gamma=0.05,
    discriminator=DiscriminatorConfig((32, 96, 128), residual=True, classifier=True),
)
# The unconditional GAN, trained with labels too.
_PUBLISHED_GAN = dataclasses.replace(_PUBLISHED, label_modes=1)
# For some thousand photos of 64 pixels in colour, such as hands that sign digits. Widths are
# multiples of 16, in which ONNX Runtime computes; the discriminator is augmented, against learning
# them by heart.
_SIGNS = GanRun(
    network=GanConfig(channels=(96, 48, 32), image_size=64, image_channels=3),
    epochs=170,  # after 270 the samples tell more of who was in the training
    batch_size=32,
    generator_lr=4e-4,
    discriminator_lr=4e-4,
    r1_gamma=0.1,
    balanced_labels=1,
    augment="brightness,saturation,contrast,translation,cutout",
    augment_probability=0.2,
    augment_target=0.5,
    discriminator=DiscriminatorConfig((32, 64, 128, 128), residual=True, classifier=True),
)
_GAN_PRESETS = {
    "compact": GanRun(epochs=20, r1_gamma=0.05),
    "published": _PUBLISHED,
    "dense": GanRun(
        generator_lr=2e-4,
        discriminator_lr=2e-4,
        adam_beta2=0.999,
        network=_DENSE,
        discriminator=DiscriminatorConfig(channels=(1024, 512, 256)),
    ),
    "dcgan": GanRun(
        generator_lr=2e-4,
        discriminator_lr=2e-4,
        adam_beta2=0.999,
        network=_DCGAN,
        discriminator=DiscriminatorConfig(channels=(64, 128, 256), spectral_norm=True),
    ),
}

PRESETS: dict[str, dict[str, AnyRun]] = {
    "gan": {
        **_GAN_PRESETS,
        "published": _PUBLISHED_GAN,
        "signs": dataclasses.replace(_SIGNS, label_modes=1),
    },
    "cgan": {**_GAN_PRESETS, "signs": _SIGNS},
    "vae": {
        "compact": VaeRun(epochs=15, batch_size=128, network=VaeConfig(prior_layers=8)),
        # For samples and reconstructions in grey. Portable, it takes about the time that SiLUs in
        # widths of 16 and 32 take in floating point.
        "published": VaeRun(
            epochs=100,
            lr=1.5e-3,
            decay_fraction=0.7,
            beta=0.25,
            distorted_fraction=0.5,
            prior_fit="joint",
            prior_steps=30_000,
            network=VaeConfig(
                architecture="compact",
                latent_dim=64,
                channels=(16, 48),
                blocks=(2, 3),
                prior_layers=8,
                prior_hidden=240,
                prior_mixing="linear",
            ),
        ),
        # For the likelihood of binarised digits.
        "likelihood": VaeRun(
            epochs=80,
            lr=1.5e-3,
            gradient_limit=200.0,
            decay_fraction=0.7,
            pixels="binarised",
            distorted_fraction=0.8,
            draws=4,
            draws_fraction=0.5,
            prior_fit="joint",
            prior_steps=20_000,
            network=VaeConfig(
                latent_dim=40,
                channels=(32, 64),
                blocks=(1, 2),
                prior_layers=8,
                prior_hidden=256,
                prior_mixing="linear",
            ),
        ),
        # As the conditional GAN's preset of this name. With ReLUs a portable graph takes 0.7 ms an
        # image, with SiLUs in widths of 32, 48 and 64 it took 2.0.
        "signs": VaeRun(
            epochs=200,
            batch_size=32,
            decay_fraction=0.7,
            holdout_fraction=0.05,
            distorted_fraction=0.9,
            distorted_last=0.9,
            network=VaeConfig(
                architecture="compact",
                latent_dim=32,
                image_size=64,
                image_channels=3,
                channels=(32, 48, 96),
                blocks=(1, 1, 1),
                hidden=128,
                prior_layers=4,
                prior_hidden=64,
                prior_mixing="linear",
            ),
        ),
        "dense": VaeRun(
            epochs=10,
            batch_size=128,
            network=VaeConfig(architecture="dense", latent_dim=20, channels=(400,)),
        ),
    },
}


def with_shape(
    run: AnyRun,
    latent_dim: int | None = None,
    channels: tuple[int, ...] | None = None,
    discriminator_channels: tuple[int, ...] | None = None,
) -> AnyRun:
    """The run with another shape of its networks; None = unchanged.

    A VAE with another number of widths gets one residual block at each.

    Raises:
        ValueError: the network cannot have that shape.
    """
    network: dict[str, Any] = {"latent_dim": latent_dim, "channels": channels}
    network = {name: value for name, value in network.items() if value is not None}
    if isinstance(run, VaeRun):
        if channels and len(channels) != len(run.network.blocks):
            network["blocks"] = (1,) * len(channels)
        return dataclasses.replace(run, network=dataclasses.replace(run.network, **network))
    discriminator = run.discriminator
    if discriminator_channels is not None:
        discriminator = dataclasses.replace(discriminator, channels=discriminator_channels)
    generator = dataclasses.replace(run.network, **network)
    return dataclasses.replace(run, network=generator, discriminator=discriminator)


def shape_of(run: AnyRun) -> dict[str, int | tuple[int, ...]]:
    """The arguments with which ``with_shape`` gives any run of its kind this shape."""
    shape: dict[str, int | tuple[int, ...]] = {
        "latent_dim": run.network.latent_dim,
        "channels": run.network.channels,
    }
    if isinstance(run, GanRun):
        shape["discriminator_channels"] = run.discriminator.channels
    return shape


def as_text(value: int | tuple[int, ...]) -> str:
    """A part of a shape as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
