"""From the settings to models that can be served: loaded, then probed."""

from typing import NamedTuple

from app.engines.backend import DeviceLostError
from app.engines.engine import Engine
from app.engines.probe import Findings
from app.engines.probe_cache import ProbeCache
from app.engines.store import load_store
from app.errors import StartupError
from app.settings import Settings


class LoadedModels(NamedTuple):
    """The models of a store, on their engine."""

    engine: Engine
    refused: dict[str, str]  # file name -> why it is not served


def load_and_probe(settings: Settings) -> LoadedModels:
    """Load every model and probe it in this process.

    Raises:
        StartupError: no model can be run, there is no such engine or device, or it fails.
    """
    loaded = load_models(settings)
    loaded.engine.start_thread()
    try:
        findings = loaded.engine.probe()
    except DeviceLostError as error:
        raise StartupError(
            f"{error}; start the service again, and look at the driver's log"
        ) from error
    return adopt_findings(settings, loaded, findings)


def load_models(settings: Settings) -> LoadedModels:
    """Load every model. Their engine has still to be probed, or to adopt what a probe measured.

    Raises:
        StartupError: no file can be loaded, or there is no such engine or device.
    """
    models, refused = load_store(
        settings.models_dir, settings.engine, settings.device, settings.threads
    )
    cache = ProbeCache(settings.cache_dir, settings.max_batch)
    return LoadedModels(Engine(models, settings.max_batch, cache), refused)


def adopt_findings(settings: Settings, loaded: LoadedModels, findings: Findings) -> LoadedModels:
    """Make loaded models ready to run; those that failed the probe are refused.

    Raises:
        StartupError: none is left.
    """
    loaded.engine.adopt(findings)
    if not loaded.engine.models:
        raise StartupError(f"no checkpoint in {settings.models_dir} can be run; see the log")
    failed = {f"{name}.safetensors": reason for name, reason in findings.failed.items()}
    return LoadedModels(loaded.engine, loaded.refused | failed)
