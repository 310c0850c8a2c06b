"""Network definitions shared by training and serving: kind -> (config class, network class).

Every class in the table is *servable*: it has ``latent_dim``, ``num_classes`` (0 = unconditional),
``image_shape`` and ``generate(z, labels)``, which maps z (B, Z) and labels (B,) or None to pixels
(B, C, H, W) in [0, 1]. A VAE adds ``encode(images) -> (mu, logvar)`` and ``decode(z) -> pixels``.
"""

from torch import nn

from training.networks.gan import GanConfig, Generator
from training.networks.vae import VAE, VaeConfig

Config = GanConfig | VaeConfig

NETWORKS: dict[str, tuple[type[GanConfig] | type[VaeConfig], type[Generator] | type[VAE]]] = {
    "gan": (GanConfig, Generator),
    "cgan": (GanConfig, Generator),
    "vae": (VaeConfig, VAE),
}


def build(kind: str, config: Config) -> Generator | VAE:
    """The servable network of one kind, with fresh weights.

    Raises:
        ValueError: the kind is not in the table, or the config is of another kind.
    """
    if kind not in NETWORKS:
        raise ValueError(f"unknown kind {kind!r}; available: {', '.join(NETWORKS)}")
    config_class, network_class = NETWORKS[kind]
    if not isinstance(config, config_class):
        raise ValueError(f"kind {kind!r} needs a {config_class.__name__}, got {config!r}")
    network: nn.Module = network_class(config)  # type: ignore[arg-type]
    assert isinstance(network, Generator | VAE)
    return network
