"""Finds, checks, loads and lists the checkpoints in a folder."""

import logging
from dataclasses import dataclass
from pathlib import Path

from app.errors import StartupError
from training.networks.checkpoint import NAME, CheckpointError, Description, load
from training.networks.gan import Generator
from training.networks.vae import VAE

log = logging.getLogger(__name__)


class StoreError(StartupError):
    """Nothing can be served from the folder; the message says why."""


@dataclass(frozen=True)
class StoredModel:
    """One checkpoint, whole and built."""

    name: str  # the file's name without .safetensors
    network: Generator | VAE
    description: Description


def load_store(folder: Path) -> tuple[dict[str, StoredModel], dict[str, str]]:
    """Load every ``*.safetensors`` in ``folder``, by name.

    Returns:
        The models that are whole, and for each refused file its name and the reason. A refused
        file does not keep the others from being served.

    Raises:
        StoreError: the folder is missing, or not one file in it can be served.
    """
    if not folder.is_dir():
        raise StoreError(f"models_dir {folder} is not a folder; set it with GENSERVE_MODELS_DIR")
    models: dict[str, StoredModel] = {}
    refused: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            if not NAME.fullmatch(path.stem):
                raise CheckpointError(
                    f"{path}: a model's name has lower-case letters, digits, '.', '_' and '-'"
                )
            network, description = load(path)
        except CheckpointError as error:
            # For strangers to read: without the folder.
            refused[path.name] = str(error).replace(f"{path}: ", "")
            log.error("refused %s", error)
        else:
            models[path.stem] = StoredModel(path.stem, network, description)
    if not models:
        reasons = "; ".join(f"{file}: {reason}" for file, reason in refused.items())
        found = f"refused: {reasons}" if refused else "there is none"
        raise StoreError(f"no checkpoint to serve in {folder} ({found})")
    return models, refused
