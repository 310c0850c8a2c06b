"""Replicas behind haproxy on this machine, with the configuration that ``deploy/haproxy`` ships."""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.children import HOST, POLL_S, ROOT, BenchError, Server, free_ports, module

CONFIG = ROOT / "deploy/haproxy/haproxy.cfg"
TEMPLATE = re.compile(r"^    server-template .*\n", re.MULTILINE)
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


class Haproxy:
    """The shipped configuration, but for the addresses of the replicas.

    Args:
        stack: Stops it.
        folder: For its log and configuration.
        replicas: Those behind it.
    """

    def __init__(self, stack: ExitStack, folder: Path, replicas: Sequence[Replica]) -> None:
        program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
        if not program:
            raise BenchError("no haproxy; install the distribution's package haproxy")
        servers = "".join(f"    server r{i} {HOST}:{r.port}\n" for i, r in enumerate(replicas))
        text, found = TEMPLATE.subn(servers, CONFIG.read_text())
        assert found == 1
        config = folder / "haproxy.cfg"
        config.write_text(text)
        (figures,) = free_ports(1)
        env = {"HAPROXY_BIND": "{host}:{port}", "HAPROXY_METRICS_BIND": f"{HOST}:{figures}"}
        command = [program, "-db", "-f", str(config)]
        self.server = Server(stack, "haproxy", command, folder, env=env)
        self._figures = f"http://{HOST}:{figures}/metrics"
        self.url = self.server.url
        self.server.wait("GET", "/readyz")

    def wait_up(self, place: int, within_s: float = 60) -> None:
        """Until it sends requests to a replica again."""
        ends = time.monotonic() + within_s
        while f'server="r{place}",state="UP"}} 1' not in self._text():
            if time.monotonic() > ends:
                raise self.server.failure(f"replica {place} is still down")
            time.sleep(POLL_S)

    def _text(self) -> str:
        got = subprocess.run(
            ["curl", "-sf", self._figures], capture_output=True, check=True, timeout=30
        )
        return got.stdout.decode()
