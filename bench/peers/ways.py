"""Ways to ask a server for images, each a load with its own figures."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bench.children import HOST, Server
from bench.cluster.balancers import program

BUSIEST = 64  # connections of the ways that are measured at one load
MANY, MANY_CONNECTIONS = 64, 16  # images a request, and connections that ask for them
BULK = f"{MANY} images a request"
ANY_LABEL = 7777  # wrk.lua puts 0 to 9 in its place

Body = Callable[[int, int], str]  # label, n -> JSON

# A proxy as in production: it keeps connections to the server, and says who asked it for what.
_HAPROXY = """
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind "${BENCH_BIND}"
    option forwardfor
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Real-IP %[src]
    default_backend back
backend back
    http-reuse always
    server server "${BENCH_SERVER}"
"""


class Way(NamedTuple):
    """How wrk asks."""

    name: str
    path: str
    arguments: tuple[str, ...]  # of wrk.lua
    connections: int
    images: int = 1  # of a request
    proxied: bool = False


def ways(path: str, body: Body | None, label: int, loads: Iterable[int], proxy: bool) -> list[Way]:
    """Every way to ask a server.

    Args:
        path: Of its images.
        body: Label and number of images as it takes them; None = ours, in the query; also by GET.
        label: Asked for.
        loads: Connections at a time.
        proxy: Whether there is a haproxy.
    """

    def asked(label: int, n: int, *mode: str) -> tuple[str, tuple[str, ...]]:
        if body is None:
            return f"{path}?label={label}" + (f"&n={n}" if n > 1 else ""), mode
        return path, (*mode, body(label, n))

    found = [Way(str(load), *asked(label, 1), load) for load in loads]
    found.append(Way("labels in turn", *asked(ANY_LABEL, 1, "labels"), BUSIEST))
    if body is None:
        found.append(Way("GET", *asked(label, 1, "get"), BUSIEST))
    if proxy:
        found.append(Way("through haproxy", *asked(label, 1), BUSIEST, proxied=True))
    return [*found, Way(BULK, *asked(label, MANY), MANY_CONNECTIONS, MANY)]


def haproxy(stack: ExitStack, folder: Path, server: Server) -> Server:
    """haproxy in front of a server that is ready."""
    config = folder / "haproxy.cfg"
    config.write_text(_HAPROXY)
    env = {"BENCH_BIND": "{host}:{port}", "BENCH_SERVER": f"{HOST}:{server.port}"}
    return Server(stack, "haproxy", [program("haproxy"), "-db", "-f", str(config)], folder, env)
