"""The models, loaded and probed before the workers are forked: once for all of them, and side by
side."""

import logging
import os
import signal
from collections.abc import Callable
from typing import BinaryIO, NoReturn

from app.engines.devices import may_run_torch
from app.engines.engine import Engine
from app.engines.loading import LoadedModels, adopt_findings, load_and_probe, load_models
from app.engines.probe import Findings, merged
from app.errors import StartupError
from app.fork import STOP_SIGNALS, end_with
from app.process.resources import usable_cores
from app.settings import Settings

log = logging.getLogger(__name__)

CHECKPOINT = ".safetensors"


def load_before_fork(settings: Settings) -> "ForkedProbe | None":
    """Load the models for workers forked afterwards, and begin to probe them.

    Returns:
        The probe; None = each worker has to load the models itself. Neither a GPU's driver nor an
        engine's threads survive a fork, so models are shared where ONNX Runtime runs all of them in
        one thread. Their weights are then in memory once, one probe is enough, and a worker that is
        replaced serves again after the time of a fork.

    Raises:
        StartupError: as ``load_and_probe``.
    """
    if settings.threads > 1 or may_run_torch(settings.engine, settings.device):
        return None
    loaded = load_models(settings)
    if any(model.backend.engine != "onnx" for model in loaded.engine.models.values()):
        return None  # one has no graphs, and torch must not run before a fork
    return ForkedProbe(settings, loaded, usable_cores())


def load_unless_refused(
    settings: Settings, probe: "ForkedProbe | None"
) -> Callable[[], LoadedModels]:
    """How a running service loads its store anew: stricter than at its start, since what it serves
    already is better than a part of the store.

    The function that is returned raises StartupError also where a single checkpoint is refused.
    """

    def load() -> LoadedModels:
        loaded = probe.result() if probe else load_and_probe(settings)
        damaged = {name: why for name, why in loaded.refused.items() if name.endswith(CHECKPOINT)}
        if damaged:
            raise StartupError("; ".join(f"{name}: {why}" for name, why in damaged.items()))
        return loaded

    return load


class ForkedProbe:
    """Loaded models, while child processes probe them.

    The probe takes about as long as the imports of the application. With a second core they run at
    the same time; a thread would not do, because an import holds the interpreter.

    Args:
        settings, loaded: As ``adopt_findings`` takes them.
        processes: That share the models, at most.
    """

    def __init__(self, settings: Settings, loaded: LoadedModels, processes: int) -> None:
        self._settings = settings
        self._loaded = loaded
        self._result: LoadedModels | None = None
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, there is no status to wait for
        self._children: list[tuple[int, BinaryIO]] = []  # process, and where its findings come from
        # Those with many operations first, each to the next process.
        names = sorted(loaded.engine.models, key=lambda name: -len(loaded.engine.operations(name)))
        count = min(processes, len(names))
        for first in range(count):
            self._fork(names[first::count])

    def _fork(self, names: list[str]) -> None:
        """Begin to probe some of the models."""
        reading, writing = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            for number in STOP_SIGNALS:  # the handlers are the parent's
                signal.signal(number, signal.SIG_DFL)
            end_with(parent)
            os.close(reading)
            _probe(self._loaded.engine, names, writing)
        os.close(writing)
        self._children.append((pid, os.fdopen(reading, "rb")))

    def result(self) -> LoadedModels:
        """What can be served; the first call waits for the probe.

        Raises:
            StartupError: no model can be run, or one has ended the process that tried it.
        """
        if not self._result:
            self._result = self._wait()
        return self._result

    def _wait(self) -> LoadedModels:
        ended: list[tuple[bytes, int]] = []  # what each found, and its status
        for pid, pipe in self._children:
            with pipe:
                findings = pipe.read()
            ended.append((findings, os.waitpid(pid, 0)[1]))
        for _, status in ended:
            if code := os.waitstatus_to_exitcode(status):
                how = f"signal {-code}" if code < 0 else f"status {code}"
                where = self._settings.models_dir
                detail = f"trying the checkpoints in {where} ended a process with {how}"
                raise StartupError(f"{detail}; the log names those that passed before")
        parts = merged(Findings.from_json(findings) for findings, _ in ended)
        return adopt_findings(self._settings, self._loaded, parts)


def _probe(engine: Engine, names: list[str], pipe: int) -> NoReturn:
    """Probe, write the findings to the pipe, and end this process."""
    status = 1
    try:
        engine.start_thread()
        findings = engine.probe(names)
        with os.fdopen(pipe, "w") as file:
            file.write(findings.to_json())
        status = 0
    except BrokenPipeError:
        pass  # the parent has ended: nobody waits for the findings
    except Exception:
        log.exception("the probe failed")
    finally:
        try:
            logging.shutdown()  # the last lines are written
        finally:
            os._exit(status)
