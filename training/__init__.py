"""Offline training of the generators that `app` serves. Imports nothing from `app`.

As a library: ``from training import publish_module`` makes a checkpoint of any generator;
``train_gan`` and ``train_vae`` are the loops behind the command line, with their settings
``GanRun`` and ``VaeRun``, data as ``Dataset`` (``load_data``, ``data_spec``) and ``Hardware``. The
names are loaded when they are asked for, for torch takes seconds to import.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.config import GanRun as GanRun
    from training.config import VaeRun as VaeRun
    from training.data.dataset import Dataset as Dataset
    from training.data.sources import data_spec as data_spec
    from training.data.sources import load_data as load_data
    from training.importing.errors import GeneratorError as GeneratorError
    from training.importing.publish import publish_module as publish_module
    from training.loops.gan import train_gan as train_gan
    from training.loops.vae import train_vae as train_vae
    from training.optim.hardware import Hardware as Hardware

# As in `app`: ONNX Runtime, which publishing compares with, reports to its makers otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Dataset",
    "GanRun",
    "GeneratorError",
    "Hardware",
    "VaeRun",
    "data_spec",
    "load_data",
    "publish_module",
    "train_gan",
    "train_vae",
]


def __getattr__(name: str) -> Any:
    """Load a public name; what it needs is imported then."""
    if name in ("GanRun", "VaeRun"):
        from training import config

        return getattr(config, name)
    if name == "Dataset":
        from training.data.dataset import Dataset

        return Dataset
    if name in ("data_spec", "load_data"):
        from training.data import sources

        return getattr(sources, name)
    if name == "GeneratorError":
        from training.importing.errors import GeneratorError

        return GeneratorError
    if name == "publish_module":
        from training.importing.publish import publish_module

        return publish_module
    if name == "train_gan":
        from training.loops.gan import train_gan

        return train_gan
    if name == "train_vae":
        from training.loops.vae import train_vae

        return train_vae
    if name == "Hardware":
        from training.optim.hardware import Hardware

        return Hardware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
