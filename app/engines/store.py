"""Finds and checks the checkpoints in a folder, and loads each into its backend."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from app.engines import devices
from app.engines.backend import Backend
from app.errors import StartupError
from training.networks.configs import GRAPH, Config, Operation
from training.networks.files import CheckpointError, errors_naming, read_regular_file
from training.networks.graph.config import Noise
from training.networks.graph.onnx_file import portable_graphs
from training.networks.header import NAME, Contents, Description, read
from training.networks.noise import noise_parts

log = logging.getLogger(__name__)

WITHOUT_GRAPHS = (
    "it has no graphs for ONNX Runtime; serve it with torch (the project's extra 'torch'), or make "
    "a copy that has them: python -m training export"
)

# A model card's pictures: what they show -> how their file names, beside the checkpoint, end.
PICTURES = {
    "samples": ".png",
    "morph": "-morph.png",
    "nearest": "-nearest.png",
    "map": "-map.png",
    "curves": "-curves.png",
    "film": "-film.webp",  # of the training
}

# How a file of each kind begins; "." is any byte.
_BEGINS = {
    ".png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    ".webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
_MAX_PICTURE_BYTES = 4 * 2**20  # of one; the largest that is shipped has 0.2 MB

# How a description says that no licence is known that lets images of the training data be shown.
_NO_LICENCE = ("unknown", "none stated")


# Files that people put here and that are no checkpoints: weights as torch.save writes them.
_FOREIGN = (".pth", ".pt", ".ckpt")


class StoreError(StartupError):
    """Nothing can be served from the folder; the message says why."""


@dataclass(frozen=True)
class StoredModel:
    """One checkpoint, whole, in the backend that runs it."""

    name: str  # the file's name without .safetensors
    description: Description
    backend: Backend
    pictures: Mapping[str, bytes] = field(default_factory=dict)  # files, keys of PICTURES

    @property
    def network(self) -> Config:
        """Its shape: ``latent_dim``, ``num_classes``, ``image_shape``."""
        return self.description.network

    @property
    def latent(self) -> tuple[Noise, ...]:
        """The noise inputs that make up a latent, in order."""
        return noise_parts(self.network)

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
    torch_device = devices.torch_device(engine, device)
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
            # Clients can read this, so it does not say where the store is.
            refused[path.name] = str(error).replace(f"{path}: ", "").replace(f"{folder}/", "")
            log.error("refused %s", error)
        else:
            pictures = _pictures(path, contents.description)
            models[path.stem] = StoredModel(path.stem, contents.description, backend, pictures)
    for path in sorted(folder.iterdir()):
        if path.suffix in _FOREIGN and path.is_file():
            refused[path.name] = _how_to_import(path)
            log.error("not served: %s: %s", path, refused[path.name])
    if not models:
        reasons = "; ".join(f"{file}: {reason}" for file, reason in refused.items())
        why = f"refused: {reasons}" if refused else "there is none"
        raise StoreError(f"no checkpoint to serve in {folder} ({why})")
    return models, refused


def _how_to_import(path: Path) -> str:
    """What to do with weights of a network that is not known here."""
    return (
        "it holds weights, not the network they belong to; make a checkpoint of both: genserve "
        f"import mymodel:Generator --weights {path.name} --latent 100 --name "
        f"{path.stem.lower()} (docs/how-to/serve-your-own-generator.md)"
    )


def _pictures(path: Path, description: Description) -> dict[str, bytes]:
    """The pictures of a checkpoint's card that may be shown, read here once: what is put in a
    file's place later is not served.

    Those with images of the training data, a VAE's samples among them, need a known licence.
    """
    files = {shows: path.with_name(path.stem + end) for shows, end in PICTURES.items()}
    licence = str(description.data.get("licence", ""))
    if not licence or licence.startswith(_NO_LICENCE):
        del files["nearest"]
        if "encode" in description.operations and description.kind != GRAPH:
            del files["samples"]
    pictures: dict[str, bytes] = {}
    for shows, file in files.items():
        try:
            with errors_naming(file):
                data = read_regular_file(file, _MAX_PICTURE_BYTES)
                if not _BEGINS[file.suffix].match(data):
                    raise ValueError(f"not a {file.suffix[1:].upper()}")
        except CheckpointError as error:
            if file.exists() or file.is_symlink():
                log.warning("left out of the card: %s", error)
        else:
            pictures[shows] = data
    return pictures


def _backend(
    path: Path, contents: Contents, engine: str, torch_device: str | None, threads: int
) -> Backend:
    """Load a checkpoint into the backend that runs it.

    Raises:
        CheckpointError: it does not fit, or no backend here can run it.
    """
    if contents.description.kind == GRAPH:
        return _imported_backend(path, contents.description, engine, torch_device, threads)
    if torch_device is None and contents.description.graphs:
        from app.engines.onnx_backend import OnnxBackend

        return OnnxBackend(path, contents.description, threads)
    if torch_device is None and (engine == "onnx" or not devices.torch_installed()):
        raise CheckpointError(f"{path}: {WITHOUT_GRAPHS}")
    from app.engines.torch_backend import TorchBackend

    graphs = portable_graphs(path, contents.description)
    with errors_naming(path):
        return TorchBackend(contents, torch_device or "cpu", threads, graphs)


def _imported_backend(
    path: Path, description: Description, engine: str, torch_device: str | None, threads: int
) -> Backend:
    """The backend of a checkpoint that has graphs alone, which only ONNX Runtime can run.

    Raises:
        CheckpointError: the settings ask for torch, or a graph does not fit.
    """
    if engine == "torch":
        raise CheckpointError(
            f"{path}: it has graphs alone, which ONNX Runtime runs on the CPU, and engine is "
            "'torch'; leave the setting at auto"
        )
    if torch_device is not None:
        log.warning(
            "%s has graphs alone: ONNX Runtime runs it on the CPU, not %s", path.stem, torch_device
        )
    from app.engines.imported_backend import ImportedBackend

    return ImportedBackend(path, description, threads)
