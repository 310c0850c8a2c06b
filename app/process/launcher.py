"""Starts the service: one process, or a supervisor with a worker for each core."""

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.core.telemetry import logs
from app.errors import StartupError
from app.fork import STOP_SIGNALS
from app.process.exit_status import stop_before_ready
from app.process.resources import codec_memory, default_workers, memory_shortage
from app.process.sockets import bind, raise_descriptor_limit, url
from app.process.workers.channel import WorkerChannel
from app.process.workers.generation import Work
from app.process.workers.supervisor import SILENT_S, Supervisor, never
from app.process.workers.worker import places
from app.settings import Settings

if TYPE_CHECKING:
    from app.codec.fork_server import ForkServer
    from app.core.telemetry.metrics import Metrics

DEAD_S = 30.0  # with a red /livez
# Objects more than before until the collector looks at the youngest, and how many such rounds until
# it looks at older ones. Imports create far more than the default of 700, and a full queue holds
# far more, hardly any of them in cycles: it would scan them again and again.
GARBAGE = (50_000, 50, 100)
_KILL_AFTER_S = 5  # beyond the drain


def launch(settings: Settings, silent_s: float = SILENT_S, dead_s: float = DEAD_S) -> int:
    """Serve until SIGTERM or SIGINT, or until the terminal closes.

    Numpy, FastAPI and what needs them are imported here when it is time, not with this module.

    Args:
        settings: Of the service.
        silent_s: A worker without a heartbeat for so long is replaced.
        dead_s: A single process that cannot go on ends after so long.

    Returns:
        The exit status.

    Raises:
        StartupError: the address cannot be listened on, or nothing can be served.
    """
    gc.set_threshold(*GARBAGE)
    # Read when numpy is imported: nothing here multiplies large matrices, and a pool of threads
    # would delay each start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        sockets = bind(settings.host, settings.port)
    except (OSError, UnicodeError) as error:
        where = f"{settings.host} port {settings.port}"
        why = getattr(error, "strerror", None) or error
        raise StartupError(f"cannot listen on {where}: {why}") from error
    exit_at_stop_signals()
    raise_descriptor_limit()
    logs.configure(settings.log_level)
    workers = settings.workers or (default_workers() if sys.platform == "linux" else 1)
    if settings.codec_memory_bytes is None:
        settings = settings.model_copy(update={"codec_memory_bytes": codec_memory(workers)})
    alone = workers == 1 and settings.reload is None
    if alone or sys.platform != "linux":
        return _serve_alone(settings, sockets, dead_s)
    return _supervise(settings, sockets, workers, silent_s)


def exit_at_stop_signals() -> None:
    """Exit with status 0 at SIGTERM or SIGINT, as long as there is nothing to stop.

    Not by an exception: one raised while native code is imported becomes an ImportError.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, stop_before_ready)


def _serve_alone(settings: Settings, sockets: list[socket.socket], dead_s: float) -> int:
    """Serve in this process."""
    _log_shortage(settings)
    from app.main import create_app
    from app.process.server import serve

    app = create_app(settings)
    app.state.fork_server = _fork_server()
    return serve(app, settings, sockets, lambda: _print_ready(sockets), dead_s=dead_s)


def _supervise(
    settings: Settings, sockets: list[socket.socket], workers: int, silent_s: float
) -> int:
    """Serve in workers, forked from this process, or from one that has loaded the store anew."""
    metrics: Metrics | None = None

    def prepare(anew: bool) -> Work:
        """Load all that can be before the forks, so that workers share it."""
        nonlocal metrics
        # The probe runs while the application is imported.
        from app.process.preload import load_before_fork, load_unless_refused

        present = _with_present_keys(settings) if anew else settings
        probe = load_before_fork(settings)

        from app.core.telemetry.metrics import Metrics
        from app.main import create_app
        from app.process.server import serve

        counts = metrics = metrics or Metrics(places(workers))
        load = probe.result if probe else None
        if anew:
            load = load_unless_refused(settings, probe)
        app = create_app(present, counts, load)
        if probe and load:
            load()  # fails here, once, and not in every worker

        def work(channel: WorkerChannel, place: int) -> int:
            counts.use(place)
            app.state.fork_server = _fork_server()
            return serve(app, settings, [], channel=channel)

        return work

    def on_ready(on_gpu: bool) -> None:
        if not on_gpu:
            _log_shortage(settings)
        _print_ready(sockets)

    changed = _changed(settings)  # looks now: a change while the store is loaded counts
    work = prepare(anew=False)
    assert metrics
    return Supervisor(
        sockets,
        workers=workers,
        workers_on_gpu=settings.workers or 1,
        work=work,
        stop_s=settings.drain_delay_seconds + settings.drain_seconds + _KILL_AFTER_S,
        on_ready=on_ready,
        on_exit=metrics.ended,
        silent_s=silent_s,
        prepare=lambda: prepare(anew=True),
        changed=changed,
    ).run()


def _with_present_keys(settings: Settings) -> Settings:
    try:
        return settings.with_keys_read_anew()
    except ValueError as error:
        raise StartupError(str(error)) from error


def _fork_server() -> "ForkServer | None":
    """The codec's; to be called before the process that serves has threads or an event loop."""
    from app.codec.fork_server import ForkServer

    try:
        return ForkServer.by_fork() if hasattr(os, "fork") else None
    except OSError as error:
        logging.warning("cannot fork the codec's server: %s", error.strerror)
        return None


def _log_shortage(settings: Settings) -> None:
    if settings.workers is None and (shortage := memory_shortage()):
        logging.info(shortage)


def _print_ready(sockets: list[socket.socket]) -> None:
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"Genserve is ready: open {url(sockets)}", flush=True)


def _changed(settings: Settings) -> Callable[[], bool]:
    if settings.reload != "watch":
        return never
    from app.engines.store_watch import StoreWatch  # numpy comes with it

    return StoreWatch(settings.models_dir).changed
