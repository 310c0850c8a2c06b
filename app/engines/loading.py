"""The models, loaded and probed in this process."""

from typing import NamedTuple

from app.engines.backend import DeviceLostError
from app.engines.engine import Engine
from app.engines.store import StoredModel, load_store
from app.errors import StartupError
from app.settings import Settings


class Prepared(NamedTuple):
    """What can be served."""

    engine: Engine
    refused: dict[str, str]  # file name -> reason


def prepare(settings: Settings) -> Prepared:
    """Load every model, and probe it.

    Raises:
        StartupError: there is none that can be run, or no such engine or device, or it fails.
    """
    models, refused = _loaded(settings)
    engine = Engine(models, settings.max_batch)
    engine.start_thread()
    try:
        failed = engine.warm_up()
    except DeviceLostError as error:
        raise StartupError(f"{error}; start again, and look at the driver's log") from error
    return _ready(settings, engine, refused, failed)


def _loaded(settings: Settings) -> tuple[dict[str, StoredModel], dict[str, str]]:
    return load_store(settings.models_dir, settings.engine, settings.device, settings.threads)


def _ready(
    settings: Settings, engine: Engine, refused: dict[str, str], failed: dict[str, str]
) -> Prepared:
    refused |= {f"{name}.safetensors": reason for name, reason in failed.items()}
    if not engine.models:
        raise StartupError(f"no checkpoint in {settings.models_dir} can be run; see the log")
    return Prepared(engine, refused)
