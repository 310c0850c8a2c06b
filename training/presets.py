"""PRESETS: network shapes and settings that work together, by kind and name."""

import dataclasses

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
# 1.6 million multiply-adds an image instead of 3.7.
_NARROW = GanConfig(channels=(24, 16))
_GAN_PRESETS = {
    "compact": GanRun(epochs=20, r1_gamma=0.05),
    "published": _PUBLISHED,
    "lite": dataclasses.replace(_PUBLISHED, network=_NARROW),
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
        "lite": dataclasses.replace(_PUBLISHED_GAN, network=_NARROW),
    },
    "cgan": {**_GAN_PRESETS},
    "vae": {
        "compact": VaeRun(epochs=15, batch_size=128, network=VaeConfig(prior_layers=8)),
        # For samples and reconstructions in grey: under 4 million multiply-adds an image.
        "published": VaeRun(
            epochs=150,
            lr=1.5e-3,
            decay_fraction=0.7,
            beta=0.25,
            distorted_fraction=0.5,
            prior_fit="joint",
            prior_steps=30_000,
            network=VaeConfig(
                latent_dim=64,
                channels=(16, 32),
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
        "dense": VaeRun(
            epochs=10,
            batch_size=128,
            network=VaeConfig(architecture="dense", latent_dim=20, channels=(400,)),
        ),
    },
}
