"""How a command ends: its exit status, and the line that says why it failed."""

import sys

DONE = 0
DIFFERENT = 1  # verify: a picture does not match its recipe
FAILED = 2  # one line on standard error says why
INTERRUPTED = 130  # as shells report SIGINT


class UsageError(Exception):
    """The command cannot be carried out. The message is for ``report``."""


def report(message: str) -> None:
    """Print the message on standard error, in one line."""
    print(f"genserve: {' '.join(message.split())}", file=sys.stderr)
