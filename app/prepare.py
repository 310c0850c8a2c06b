"""The models, loaded, probed and warm, before anything is served; once for all processes where a
fork can take them along."""

import logging
from typing import NamedTuple

from app.engine import Engine
from app.errors import StartupError
from app.settings import Settings
from app.store import StoredModel, load_store, may_run_torch

log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """What can be served."""

    engine: Engine
    refused: dict[str, str]  # file name -> reason


def prepare(settings: Settings) -> Prepared:
    """Load every model, and probe it.

    Raises:
        StartupError: there is none that can be run, or no such engine or device.
    """
    return _probed(settings, *_loaded(settings))


def _loaded(settings: Settings) -> tuple[dict[str, StoredModel], dict[str, str]]:
    return load_store(settings.models_dir, settings.engine, settings.device, settings.threads)


def _probed(
    settings: Settings, models: dict[str, StoredModel], refused: dict[str, str]
) -> Prepared:
    engine = Engine(models, settings.max_batch)
    engine.start_thread()
    for name, reason in engine.warm_up().items():
        refused[f"{name}.safetensors"] = reason
    if not engine.models:
        raise StartupError(f"no checkpoint in {settings.models_dir} can be run; see the log")
    return Prepared(engine, refused)


def prepare_to_fork(settings: Settings) -> Prepared | None:
    """``prepare``, for workers that are forked afterwards; None = each has to do it itself.

    Neither a GPU's driver nor an engine's threads live on in a fork, so models are shared where
    ONNX Runtime runs them in one thread. Their weights are then in memory once, one probe is
    enough, and a worker that is replaced begins to serve in the time of a fork.

    Raises:
        StartupError: as ``prepare``.
    """
    if settings.threads > 1 or may_run_torch(settings.engine, settings.device):
        return None
    models, refused = _loaded(settings)
    if any(model.runner.engine != "onnx" for model in models.values()):
        return None  # one had no graphs, and torch must not have run before a fork
    return _probed(settings, models, refused)
