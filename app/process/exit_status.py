"""Exit statuses of the service that are not 0."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """Why the service ended."""

    USAGE = 2  # a setting is wrong
    UNAVAILABLE = 3  # nothing to serve, no such device, or the port is taken
    HUNG = 4  # a model hung, or the process could not go on for another reason


def from_wait(code: int) -> int:
    """An exit status as shells report it: 128 + N for a process that signal N has ended.

    Args:
        code: Of ``os.waitstatus_to_exitcode``: -N for a signal.
    """
    return 128 - code if code < 0 else code
