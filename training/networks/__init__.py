"""Network definitions shared by training and serving.

Every network that ``build`` returns is *servable*: it has ``latent_dim``, ``num_classes``
(0 = unconditional), ``image_shape`` and ``generate(z, labels)``, which maps z (B, Z) and labels
(B,) or None to pixels (B, C, H, W) in [0, 1]. A VAE adds ``encode(images) -> (mu, logvar)`` and
``decode(z) -> pixels``.

Importing this package, ``configs``, ``files``, ``header`` or ``graphs`` does not import torch,
which takes seconds and hundreds of megabytes. A server that runs exported graphs needs only these.
"""

from typing import TYPE_CHECKING

from training.networks.configs import CONFIGS, Config, GanConfig, VaeConfig

if TYPE_CHECKING:
    from training.networks.gan import Generator
    from training.networks.vae import VAE


def build(kind: str, config: Config) -> "Generator | VAE":
    """The servable network of one kind, with fresh weights. Imports torch.

    Raises:
        ValueError: the kind is not in CONFIGS, or the config is of another kind.
    """
    from training.networks.gan import Generator
    from training.networks.vae import VAE

    if kind not in CONFIGS:
        raise ValueError(f"unknown kind {kind!r}; available: {', '.join(CONFIGS)}")
    if not isinstance(config, CONFIGS[kind]):
        raise ValueError(f"kind {kind!r} needs a {CONFIGS[kind].__name__}, got {config!r}")
    if isinstance(config, GanConfig):
        return Generator(config)
    assert isinstance(config, VaeConfig)
    return VAE(config)


def with_config(network: "Generator | VAE", config: Config) -> "Generator | VAE":
    """A copy of a network with another config of the same weights, in eval mode."""
    copy = type(network)(config)  # type: ignore[arg-type]
    copy.load_state_dict(network.state_dict())
    return copy.to(next(network.parameters()).device).eval().requires_grad_(False)
