"""The models, loaded and probed before anything is served; once for all processes where a fork can
take them along."""

import logging
import os
import signal
from typing import NoReturn

from app.engines.engine import Engine
from app.engines.loading import LoadedModels, adopt_findings, load_models
from app.engines.probe import Findings
from app.engines.store import may_run_torch
from app.errors import StartupError
from app.process.fork import end_with
from app.settings import Settings

log = logging.getLogger(__name__)


class ForkedProbe:
    """Loaded models, while a process of its own probes them.

    The probe takes about as long as the imports of the application, so where there is a second core
    they are made at the same time (threads do not do that: an import holds the interpreter).
    """

    def __init__(self, settings: Settings, loaded: LoadedModels) -> None:
        self._settings = settings
        self._loaded = loaded
        self._result: LoadedModels | None = None
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would leave nothing to wait for
        reading, writing = os.pipe()
        parent = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            for number in (signal.SIGTERM, signal.SIGINT):  # the handlers are the parent's
                signal.signal(number, signal.SIG_DFL)
            end_with(parent)
            os.close(reading)
            _probe(loaded.engine, writing)
        os.close(writing)
        self._told = os.fdopen(reading, "rb")

    def result(self) -> LoadedModels:
        """What can be served; the first call waits for it.

        Raises:
            StartupError: no model can be run, or one has ended the process that tried it.
        """
        if not self._result:
            self._result = self._wait()
        return self._result

    def _wait(self) -> LoadedModels:
        with self._told:
            told = self._told.read()
        _, status = os.waitpid(self._pid, 0)
        if code := os.waitstatus_to_exitcode(status):
            how = f"signal {-code}" if code < 0 else f"status {code}"
            where = self._settings.models_dir
            detail = f"trying the checkpoints in {where} ended a process with {how}"
            raise StartupError(f"{detail}; the log names those that passed before")
        return adopt_findings(self._settings, self._loaded, Findings.from_json(told))


def _probe(engine: Engine, told: int) -> NoReturn:
    """Probe, tell the findings as JSON, and end this process."""
    status = 1
    try:
        engine.start_thread()
        findings = engine.probe()
        with os.fdopen(told, "w") as file:
            file.write(findings.to_json())
        status = 0
    except Exception:
        log.exception("the probe failed")
    finally:
        os._exit(status)


def prepare_to_fork(settings: Settings) -> ForkedProbe | None:
    """Begin to ``load_and_probe``, for workers forked afterwards; None = each has to do it itself.

    Neither a GPU's driver nor an engine's threads live on in a fork, so models are shared where
    ONNX Runtime runs them in one thread. Their weights are then in memory once, one probe is
    enough, and a worker that is replaced begins to serve in the time of a fork.

    Raises:
        StartupError: as ``load_and_probe``.
    """
    if settings.threads > 1 or may_run_torch(settings.engine, settings.device):
        return None
    loaded = load_models(settings)
    if any(model.backend.engine != "onnx" for model in loaded.engine.models.values()):
        return None  # one had no graphs, and torch must not have run before a fork
    return ForkedProbe(settings, loaded)
