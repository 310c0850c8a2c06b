"""Names of the checkpoints that are shipped, whatever their version."""

from pathlib import Path

STORE = Path(__file__).parent.parent / "models_store"


def _name(family: str, kind: str) -> str:
    (path,) = STORE.glob(f"{family}-{kind}-v*.safetensors")
    return path.stem


CGAN, GAN, VAE = _name("mnist", "cgan"), _name("mnist", "gan"), _name("mnist", "vae")
SIGNS, SIGNS_VAE = _name("signs", "cgan"), _name("signs", "vae")
