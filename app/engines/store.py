"""Finds and checks the checkpoints in a folder, and puts each on its engine."""

import ctypes
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from app.engines.backend import Backend
from app.errors import StartupError
from training.networks.configs import Config, Operation
from training.networks.files import CheckpointError, errors_naming
from training.networks.header import NAME, Contents, Description, read

log = logging.getLogger(__name__)

WITHOUT_GRAPHS = (
    "it has no graphs for ONNX Runtime; serve it with torch (the project's extra 'torch'), or make "
    "a copy that has them: python -m training export"
)


# What a card's pictures show -> how their files end; beside the checkpoint, where they were made.
PICTURES = {
    "samples": ".png",
    "morph": "-morph.png",
    "nearest": "-nearest.png",
    "map": "-map.png",
    "curves": "-curves.png",
}


# How a card says that no licence is known, which would let pictures of the training data be shown.
_NO_LICENCE = ("unknown", "none stated")


class StoreError(StartupError):
    """Nothing can be served from the folder; the message says why."""


@dataclass(frozen=True)
class StoredModel:
    """One checkpoint, whole, on the engine that runs it."""

    name: str  # the file's name without .safetensors
    description: Description
    backend: Backend
    pictures: Mapping[str, Path] = field(default_factory=dict)  # of its card, by what they show

    @property
    def network(self) -> Config:
        """Its shape: ``latent_dim``, ``num_classes``, ``image_shape``."""
        return self.description.network

    @property
    def operations(self) -> tuple[Operation, ...]:
        """What it can do."""
        return self.description.operations


def load_store(
    folder: Path,
    engine: Literal["auto", "onnx", "torch"] = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int = 1,
) -> tuple[dict[str, StoredModel], dict[str, str]]:
    """Load every ``*.safetensors`` in ``folder``, by name.

    Args:
        folder: The store.
        engine: What runs the networks. auto = torch on a GPU where torch is installed and finds
            one, else ONNX Runtime for what was exported to it, else torch.
        device: Where. auto = the GPU where torch runs and finds one, else the CPU.
        threads: CPU threads of one pass.

    Returns:
        The models that are whole, and for each refused file its name and the reason. A refused
        file does not keep the others from being served.

    Raises:
        StoreError: the folder is missing, or not one file in it can be served.
        StartupError: there is no such engine or device here.
    """
    if not folder.is_dir():
        raise StoreError(f"models_dir {folder} is not a folder; set it with GENSERVE_MODELS_DIR")
    torch_device = _torch_device(engine, device)
    models: dict[str, StoredModel] = {}
    refused: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            if not NAME.fullmatch(path.stem):
                raise CheckpointError(
                    f"{path}: a model's name has lower-case letters, digits, '.', '_' and '-'"
                )
            contents = read(path)
            backend = _backend(path, contents, engine, torch_device, threads)
        except CheckpointError as error:
            # For strangers to read: without the folder.
            refused[path.name] = str(error).replace(f"{path}: ", "").replace(f"{folder}/", "")
            log.error("refused %s", error)
        else:
            pictures = _pictures(path, contents.description)
            models[path.stem] = StoredModel(path.stem, contents.description, backend, pictures)
    if not models:
        reasons = "; ".join(f"{file}: {reason}" for file, reason in refused.items())
        found = f"refused: {reasons}" if refused else "there is none"
        raise StoreError(f"no checkpoint to serve in {folder} ({found})")
    return models, refused


def _pictures(path: Path, description: Description) -> dict[str, Path]:
    """The pictures of a checkpoint's card; those with images of its data, a VAE's samples among
    them, only where a licence is told."""
    found = {shows: path.with_name(path.stem + end) for shows, end in PICTURES.items()}
    licence = str(description.data.get("licence", ""))
    if not licence or licence.startswith(_NO_LICENCE):
        del found["nearest"]
        if "encode" in description.operations:
            del found["samples"]
    return {shows: file for shows, file in found.items() if file.is_file()}


def _torch_device(engine: str, device: str) -> str | None:
    """The device on which torch is to run every model; None = torch is not the first choice.

    Imports torch only where it is asked for or could have a GPU: that takes seconds.
    """
    installed = find_spec("torch") is not None
    if engine == "onnx":
        if device == "cuda":
            raise StartupError(
                "engine is 'onnx', which runs on the CPU, but device is 'cuda'; choose one of them"
            )
        return None
    if engine == "torch" or device == "cuda":
        if not installed:
            asked = "engine is 'torch'" if engine == "torch" else "device is 'cuda'"
            raise StartupError(
                f"{asked}, but torch is not installed: install the project's extra 'torch', or "
                "leave the setting at auto"
            )
    elif device == "cpu" or not installed or not _cuda_devices():
        return None
    from app.engines.torch_backend import pick_device

    found = pick_device(device)
    return found if engine == "torch" or found == "cuda" else None


def may_run_torch(engine: str, device: str) -> bool:
    """Whether torch could be what runs models that have graphs: told without a GPU's driver, which
    a process that has asked it anything cannot take along into a fork."""
    if engine == "onnx" or find_spec("torch") is None:
        return False
    return engine == "torch" or device == "cuda" or (device == "auto" and _driver() is not None)


def _driver() -> ctypes.CDLL | None:
    """NVIDIA's driver, if it is there."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _cuda_devices() -> int:
    """GPUs that the driver shows to this process, asked without torch."""
    if (driver := _driver()) is None:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def _backend(
    path: Path,
    contents: Contents,
    engine: str,
    torch_device: str | None,
    threads: int,
) -> Backend:
    """A checkpoint on its engine.

    Raises:
        CheckpointError: it does not fit, or has nothing for the engines that are here.
    """
    if torch_device is None and contents.description.graphs:
        from app.engines.onnx_backend import OnnxBackend

        return OnnxBackend(path, contents.description, threads)
    if torch_device is None and (engine == "onnx" or find_spec("torch") is None):
        raise CheckpointError(f"{path}: {WITHOUT_GRAPHS}")
    from app.engines.torch_backend import TorchBackend

    with errors_naming(path):
        return TorchBackend(contents, torch_device or "cpu", threads)
