"""The models, loaded and probed before anything is served; once for all processes where a fork can
take them along."""

import json
import logging
import os
import signal
from typing import NoReturn

from app.engines.engine import Engine, Findings
from app.engines.loading import Prepared, _loaded, _ready
from app.engines.store import StoredModel, may_run_torch
from app.errors import StartupError
from app.process.fork import end_with
from app.settings import Settings

log = logging.getLogger(__name__)


class Preparation:
    """Loaded models, while a process of its own probes them.

    The probe takes about as long as the imports of the application, so where there is a second core
    they are made at the same time (threads do not do that: an import holds the interpreter).
    """

    def __init__(
        self, settings: Settings, models: dict[str, StoredModel], refused: dict[str, str]
    ) -> None:
        self._settings = settings
        self._refused = refused
        self._result: Prepared | None = None
        self._engine = Engine(models, settings.max_batch)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would leave nothing to wait for
        reading, writing = os.pipe()
        parent = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            for number in (signal.SIGTERM, signal.SIGINT):  # the handlers are the parent's
                signal.signal(number, signal.SIG_DFL)
            end_with(parent)
            os.close(reading)
            _probe(self._engine, writing)
        os.close(writing)
        self._told = os.fdopen(reading, "rb")

    def result(self) -> Prepared:
        """What can be served; the first call waits for it.

        Raises:
            StartupError: no model can be run, or one has ended the process that tried it.
        """
        if not self._result:
            self._result = self._wait()
        return self._result

    def _wait(self) -> Prepared:
        with self._told:
            told = self._told.read()
        _, status = os.waitpid(self._pid, 0)
        if code := os.waitstatus_to_exitcode(status):
            how = f"signal {-code}" if code < 0 else f"status {code}"
            where = self._settings.models_dir
            detail = f"trying the checkpoints in {where} ended a process with {how}"
            raise StartupError(f"{detail}; the log names those that passed before")
        costs, *others = json.loads(told)
        lanes = {
            (name, operation): [(int(size), float(seconds)) for size, seconds in passes]
            for name, operation, passes in costs
        }
        found = Findings(lanes, *others)
        self._engine.adopt(found)
        return _ready(self._settings, self._engine, self._refused, found.failed)


def _probe(engine: Engine, told: int) -> NoReturn:
    """Probe, tell the findings as JSON, and end this process."""
    status = 1
    try:
        engine.start_thread()
        costs, *others = engine.probe()
        lanes = [(name, operation, passes) for (name, operation), passes in costs.items()]
        with os.fdopen(told, "w") as file:
            json.dump([lanes, *others], file)
        status = 0
    except Exception:
        log.exception("the probe failed")
    finally:
        os._exit(status)


def prepare_to_fork(settings: Settings) -> Preparation | None:
    """Begin to ``prepare``, for workers forked afterwards; None = each has to do it itself.

    Neither a GPU's driver nor an engine's threads live on in a fork, so models are shared where
    ONNX Runtime runs them in one thread. Their weights are then in memory once, one probe is
    enough, and a worker that is replaced begins to serve in the time of a fork.

    Raises:
        StartupError: as ``prepare``.
    """
    if settings.threads > 1 or may_run_torch(settings.engine, settings.device):
        return None
    models, refused = _loaded(settings)
    if any(model.backend.engine != "onnx" for model in models.values()):
        return None  # one had no graphs, and torch must not have run before a fork
    return Preparation(settings, models, refused)
