"""``python -m app.process.healthcheck``: whether the service of this container is alive.

For the image's HEALTHCHECK: the exit status is 0 or 1. It asks the port that process 1 was started
with, by option or variable, and imports little, since it runs every few seconds.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path

DEFAULT_PORT = 8000


def port_of(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The port of a service, by its command line and environment."""
    found = re.findall(r"\0--port[=\0]([0-9]+)(?=\0)", "\0" + "\0".join(command) + "\0")
    variable = environment.get("GENSERVE_PORT", "")  # Kubernetes may put an address there
    return int(found[-1] if found else variable if variable.isdecimal() else DEFAULT_PORT)


def is_alive(port: int) -> bool:
    """Whether a service on this machine answers /livez with 200 in two seconds."""
    # No proxy is asked: Docker hands its HTTP_PROXY to containers.
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    line = Path("/proc/1/cmdline").read_text().split("\0")
    sys.exit(0 if is_alive(port_of(line, os.environ)) else 1)
