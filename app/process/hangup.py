"""What SIGHUP means: load the store anew, unless the terminal has closed that started the service.

A closing terminal sends the same signal as an operator who has changed the store. The first ends
the service, as SIGTERM does; its terminal can no longer be opened then.
"""

import os


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


_HAD_TERMINAL = _has_terminal()


def terminal_has_closed() -> bool:
    """Whether there was a terminal when the service started, and there is none any more."""
    return _HAD_TERMINAL and not _has_terminal()
