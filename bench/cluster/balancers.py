"""Load balancers before replicas, with the configurations that ``deploy`` ships.

They differ from those in the addresses alone.
"""

import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.children import HOST, POLL_S, ROOT, BenchError, Server, free_ports
from bench.cluster.replicas import Replica

DEPLOY = ROOT / "deploy"
# Those of `make deploy-tools` and `make deploy-ray` first; None = PATH.
PATHS = (f"{sys.prefix}/deploy/bin", f"{sys.prefix}/ray/bin", None, "/usr/sbin")


class Balancer:
    """One that runs.

    Args:
        server: It.
        is_up: Whether it sends requests to the replica in this place.
    """

    def __init__(self, server: Server, is_up: Callable[[int], bool]) -> None:
        self.server, self._is_up = server, is_up
        server.wait("GET", "/readyz")

    def wait_up(self, place: int, within_s: float = 60) -> None:
        """Until it sends requests to a replica again."""
        ends = time.monotonic() + within_s
        while not self._is_up(place):
            if time.monotonic() > ends:
                raise self.server.failure(f"replica {place} is still down")
            time.sleep(POLL_S)


class Figures(Server):
    """What a balancer says of itself, on another port than the one that clients use."""

    def __init__(self, port: int) -> None:
        self.port, self.name = port, "figures"

    def failure(self, what: str) -> BenchError:
        return BenchError(what)

    def text(self, path: str) -> str:
        """A page."""
        return self.ask("GET", path)[2].decode()


def program(name: str) -> str:
    """Where it is; BenchError if it is not installed."""
    found = next(filter(None, (shutil.which(name, path=path) for path in PATHS)), None)
    if not found:
        raise BenchError(f"no {name}; docs/how-to/scale-out.md says where it comes from")
    return found


def changed(text: str, *changes: tuple[str, str]) -> str:
    """With each pattern's only match replaced."""
    for pattern, new in changes:
        text, count = re.subn(pattern, new, text, flags=re.MULTILINE)
        assert count == 1, pattern
    return text


def haproxy(stack: ExitStack, folder: Path, replicas: Sequence[Replica]) -> Balancer:
    """haproxy before replicas."""
    servers = "\n".join(f"    server r{i} {HOST}:{r.port}" for i, r in enumerate(replicas))
    config = folder / "haproxy.cfg"
    text = (DEPLOY / "haproxy/haproxy.cfg").read_text()
    config.write_text(changed(text, ("^    server-template .*$", servers)))
    (port,) = free_ports(1)
    figures = Figures(port)
    env = {"HAPROXY_BIND": "{host}:{port}", "HAPROXY_METRICS_BIND": f"{HOST}:{port}"}
    command = [program("haproxy"), "-db", "-f", str(config)]
    server = Server(stack, "haproxy", command, folder, env=env)
    return Balancer(server, lambda i: f'server="r{i}",state="UP"}} 1' in figures.text("/metrics"))


def envoy(stack: ExitStack, folder: Path, replicas: Sequence[Replica]) -> Balancer:
    """Envoy before replicas."""
    at = "endpoint: {address: {socket_address: {address: %s, port_value: %d}}}"
    endpoints = "\n".join(f"              - {at % (HOST, r.port)}" for r in replicas)
    port, admin = free_ports(2)
    figures = Figures(admin)
    config = folder / "envoy.yaml"
    config.write_text(
        changed(
            (DEPLOY / "envoy/envoy.yaml").read_text(),
            ("address: 0.0.0.0, port_value: 8000", f"address: {HOST}, port_value: {port}"),
            ("port_value: 9901", f"port_value: {admin}"),
            ("type: STRICT_DNS", "type: STATIC"),
            ("^ +dns_refresh_rate: 1s\n", ""),
            ("^ +- endpoint: .*$", endpoints),
        )
    )
    command = [program("envoy"), "-c", str(config), "-l", "warn", "--concurrency", "1"]
    server = Server(stack, "envoy", [*command, "--use-dynamic-base-id"], folder)
    server.port, server.url = port, f"http://{HOST}:{port}"
    return Balancer(
        server,
        lambda i: f"{HOST}:{replicas[i].port}::health_flags::healthy" in figures.text("/clusters"),
    )


BALANCERS = {"haproxy": haproxy, "envoy": envoy}
