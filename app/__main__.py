"""``python -m app``: settings from the environment and the command line, then the processes."""

import sys
from typing import NoReturn

from app.errors import StartupError
from app.process.exit_status import ExitStatus
from app.process.launcher import launch
from app.settings import UsageError, read_settings


def main(arguments: list[str]) -> NoReturn:
    """Serve until SIGTERM or SIGINT, and exit."""
    try:
        status = launch(read_settings(arguments))
    except UsageError as error:
        fail(ExitStatus.USAGE, error)
    except StartupError as error:
        fail(ExitStatus.UNAVAILABLE, error)
    raise SystemExit(status)


def fail(status: int, why: object) -> NoReturn:
    """Exit with a line on standard error."""
    print(f"genserve: {why}", file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
