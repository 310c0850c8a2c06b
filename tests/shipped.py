"""Names of the checkpoints that are shipped, whatever their version."""

from pathlib import Path

STORE = Path(__file__).parent.parent / "models_store"


def _name(kind: str) -> str:
    (path,) = STORE.glob(f"mnist-{kind}-v*.safetensors")
    return path.stem


CGAN, GAN, VAE = _name("cgan"), _name("gan"), _name("vae")
