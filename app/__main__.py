"""``python -m app``: settings from the environment and the command line, then the processes."""

import contextlib
import gc
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from app.errors import StartupError
from app.process.resources import default_workers, memory_shortage
from app.process.supervisor import UNAVAILABLE_STATUS, Link, Supervisor, bind
from app.settings import Settings, unknown_variables

USAGE_STATUS = 2  # a setting is wrong
# Objects more than before until the collector looks at the youngest, and how many such rounds until
# it looks at older ones.
_GARBAGE = (50_000, 50, 100)


def _stop(status: int, message: str) -> NoReturn:
    print(f"genserve: {message}", file=sys.stderr)
    raise SystemExit(status)


def _address(sockets: list[socket.socket]) -> str:
    """Where a browser on this machine finds the service."""
    host, port = sockets[0].getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _end_at_signals(tidy: Callable[[], None] = lambda: None) -> None:
    """End in order at SIGTERM or SIGINT, until there is something to stop.

    Not by an exception: out of the midst of an import of native code that would come as an
    ImportError.

    Args:
        tidy: Called before the end.
    """

    def end(*_: object) -> None:
        tidy()
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _supervise(settings: Settings, sockets: list[socket.socket]) -> int:
    """Several processes; returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="genserve-", ignore_cleanup_errors=True) as name:
        tidy = partial(shutil.rmtree, name, ignore_errors=True)
        _end_at_signals(tidy)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = name  # read when it is imported
        # All that can be is made before the forks, so that they share it.
        from app.process.preload import prepare_to_fork

        try:
            preparation = prepare_to_fork(settings)

            from prometheus_client.multiprocess import mark_process_dead

            from app.main import create_app
            from app.process.server import serve

            app = create_app(settings, Path(name), preparation.result if preparation else None)
            if preparation:
                preparation.result()
        except StartupError as error:
            _stop(UNAVAILABLE_STATUS, str(error))

        def work(link: Link) -> int:
            return serve(app, settings, [], link=link)

        return Supervisor(
            sockets,
            settings.workers,
            work,
            grace_s=settings.drain_delay_seconds + settings.drain_seconds + 5,
            ready=lambda: _say_ready(sockets),
            ended=lambda pid: mark_process_dead(pid, name),
        ).run()


def _raise_limit() -> None:
    """A connection takes a file descriptor: allow as many as this process may have."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _say_ready(sockets: list[socket.socket]) -> None:
    print(f"Genserve is ready: open {_address(sockets)}", flush=True)


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM or SIGINT."""
    # Imports make far more objects than the usual 700, and a queue holds far more, none of them in
    # a cycle: the collector would look through them again and again (docs/log.md).
    gc.set_threshold(*_GARBAGE)
    # Before numpy is imported: nothing here gives it large matrices, and a pool of threads would
    # delay each start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if unknown := unknown_variables():
        _stop(USAGE_STATUS, f"unknown setting in the environment: {', '.join(unknown)}")
    try:
        settings = CliApp.run(Settings, cli_args=arguments)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        _stop(USAGE_STATUS, f"{where}: {first['msg'].removeprefix('Value error, ')}")
    except SettingsError as error:
        _stop(USAGE_STATUS, str(error))
    try:
        sockets = bind(settings.host, settings.port)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        where = f"{settings.host} port {settings.port}"
        _stop(UNAVAILABLE_STATUS, f"cannot listen on {where}: {why}")
    _end_at_signals()
    _raise_limit()

    form = "%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form)
    if sys.platform != "linux" or (settings.workers or default_workers()) == 1:
        if settings.workers is None and (said := memory_shortage()):
            logging.info(said)
        from app.main import create_app
        from app.process.server import serve

        status = serve(create_app(settings), settings, sockets, ready=lambda: _say_ready(sockets))
    else:
        status = _supervise(settings, sockets)
    raise SystemExit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
