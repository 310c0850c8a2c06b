"""Services that are killed and started again on the same port."""

import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.children import HOST, Server, free_ports, module

_STOP_S = 40


class Replica:
    """A service on a port that it keeps when it is started again.

    Args:
        stack: Stops it.
        folder: For its logs.
        name: Of them.
        options: More of ``python -m app``.
    """

    def __init__(self, stack: ExitStack, folder: Path, name: str, options: Sequence[str]) -> None:
        self._stack, self._folder, self._name, self._options = stack, folder, name, options
        (self.port,) = free_ports(1)
        self._starts = 0
        self.server = self.start()

    def start(self) -> Server:
        """Start it, and return at once."""
        self._starts += 1
        command = [*module("app", "--host", HOST), "--port", str(self.port), "--workers", "1"]
        command += ["--trusted-proxies", HOST, *self._options]
        name = f"{self._name}-{self._starts}"
        self.server = Server(self._stack, name, command, self._folder)
        self.server.port, self.server.url = self.port, f"http://{HOST}:{self.port}"
        return self.server

    def wait(self) -> None:
        """Until it is ready."""
        self.server.wait("GET", "/readyz")

    def kill(self) -> None:
        """SIGKILL."""
        self.server.process.kill()
        self.server.process.wait()

    def stop(self) -> None:
        """SIGTERM, and wait until it has drained."""
        self.server.process.send_signal(signal.SIGTERM)
        self.server.process.wait(_STOP_S)

    def counted(self, name: str) -> float:
        """A counter, over all its labels."""
        text = self.server.ask("GET", "/metrics")[2].decode()
        lines = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
        return sum(float(line.split()[-1]) for line in lines)
