"""``python -m app``: settings from the environment and the command line, then the processes.

Python 3.6 can read this file, so that an old Python gets as far as the line that says so.
"""

import signal
import sys
from typing import NoReturn

from app.process.exit_status import ExitStatus, stop_before_ready

OLDEST_PYTHON = (3, 11)  # as in pyproject.toml


def main(arguments: "list[str]") -> NoReturn:
    """Serve until a signal to stop, and exit."""
    if sys.version_info < OLDEST_PYTHON:
        found, needed = sys.version.split()[0], ".".join(map(str, OLDEST_PYTHON))
        fail(
            ExitStatus.UNAVAILABLE,
            f"{sys.executable} is Python {found}; Python {needed} or newer is needed",
        )
    try:
        serve(arguments)
    except ModuleNotFoundError as error:
        package = str(error.name).split(".")[0]
        if package in ("app", "training"):
            raise
        fail(
            ExitStatus.UNAVAILABLE,
            f"{sys.executable} has no package '{package}'; in the project's folder, run "
            "`make serve`, or `pip install .` and this again",
        )


def serve(arguments: "list[str]") -> NoReturn:
    from app.errors import StartupError
    from app.process.launcher import launch
    from app.settings import UsageError, read_settings

    try:
        status = launch(read_settings(arguments))
    except UsageError as error:
        fail(ExitStatus.USAGE, error)
    except StartupError as error:
        fail(ExitStatus.UNAVAILABLE, error)
    raise SystemExit(status)


def fail(status: int, reason: object) -> NoReturn:
    """Exit with one line on standard error."""
    # One write, unlike print's two: a process that still logs would write between them.
    sys.stderr.write(f"genserve: {reason}\n")
    raise SystemExit(status)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, stop_before_ready)
    main(sys.argv[1:])
