"""``python -m bench ray``: two nodes of Ray Serve on this machine, as ``deploy/ray`` has them.

A replica is killed, then the node that holds one, under load: no request may fail, and each seed
has one digest. Its programs come from an environment of its own (`make deploy-ray`).
"""

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from bench import processes, rig, wrk
from bench.children import HOST, POLL_S, ROOT, BenchError, Child, Server, free_ports
from bench.cluster.balancers import DEPLOY, Figures, changed, haproxy, program
from bench.cluster.failover import LABEL, Tally, load, progress
from bench.cluster.replicas import Replica

_UP = re.compile(r'^haproxy_server_status\{[^}]*SERVE_REPLICA[^}]*"UP"\} 1', re.MULTILINE)
_ADDRESS = re.compile("--address='([^']+)'")  # in what `ray start --head` tells
_STARTED = "This command will now block forever"
_TRIES = 3
_WAIT_S = 300.0
# For few slow cores.
_PATIENT = {
    "RAY_raylet_start_wait_time_s": "60",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}


def environment(folder: Path) -> dict[str, str]:
    """That of ``deploy/ray/ray.env``, with this machine's only proxy in a folder of its own."""
    ray = Path(program("ray"))
    shell = ["sh", "-c", "set -a; . ./ray.env; env -0"]
    text = subprocess.run(
        shell, cwd=DEPLOY / "ray", env={}, stdout=subprocess.PIPE, check=True
    ).stdout.decode()
    given = dict(line.split("=", 1) for line in text.split("\0") if line.startswith("RAY_"))
    figures, statistics = free_ports(2)
    return {
        **given,
        **_PATIENT,
        "PATH": f"{ray.parent}:/usr/sbin:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(DEPLOY / "ray/haproxy"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/haproxy/admin.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/haproxy/metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": f"{folder}/haproxy",
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/haproxy/state",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(figures),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
    }


class Cluster:
    """Two nodes of a core each, a replica on each, and the proxy on the first.

    Args:
        stack: Stops them.
        folder: For logs and sockets; a short path.
        settings: Of the service, by variable.
        replicas: At least and at most.
    """

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        settings: Mapping[str, str],
        replicas: tuple[int, int] = (2, 2),
    ) -> None:
        self._stack, self._folder = stack, folder
        self._env = environment(folder)
        self._figures = Figures(int(self._env["RAY_SERVE_HAPROXY_METRICS_PORT"]))
        (self._port,) = free_ports(1)
        self._nodes = 0
        began = time.monotonic()
        self.head = self._node("--head", "--port", str(self._port), "--include-dashboard=false")
        self._address = _ADDRESS.findall(self._log(self.head))[0]
        self.other = self._node("--address", self._address)
        config = self._folder / "serve.yaml"
        (port,) = free_ports(1)
        given = ", ".join(f'{name}: "{value}"' for name, value in settings.items())
        text = changed(
            (DEPLOY / "ray/serve.yaml").read_text(),
            ("proxy_location: EveryNode", "proxy_location: HeadOnly"),
            (r"\{host: 0\.0\.0\.0, port: 8000\}", f"{{host: {HOST}, port: {port}}}"),
            (r"env_vars: \{\}", f"env_vars: {{{given}}}"),
            ("min_replicas: 2", f"min_replicas: {replicas[0]}"),
            ("max_replicas: 20", f"max_replicas: {replicas[1]}"),
        )
        config.write_text(text)
        env = {**self._env, "RAY_ADDRESS": self._address}
        self.server = Server(stack, "serve", ["serve", "run", str(config)], folder, env=env)
        self.server.port, self.server.url = port, f"http://{HOST}:{port}"
        self.server.wait("GET", "/readyz")
        self.wait_up(replicas[0])
        self.ready_s = time.monotonic() - began

    def _log(self, child: Child) -> str:
        return (self._folder / f"{child.name}.log").read_text(errors="replace")

    def _wait(self, reached: Callable[[], bool], what: str) -> None:
        ends = time.monotonic() + _WAIT_S
        while not reached():
            if time.monotonic() > ends:
                raise BenchError(f"waited {_WAIT_S:g} s for {what}")
            time.sleep(POLL_S)

    def _node(self, *options: str) -> Child:
        """Start a node and wait until it runs; on a busy machine its agents may be too late for it,
        which ends it."""
        size = ["--num-cpus", "1", "--object-store-memory", "100000000"]
        command = ["ray", "start", "--block", *options, *size]
        for _ in range(_TRIES):
            self._nodes += 1
            name = f"node-{self._nodes}"
            child = Child(self._stack, name, command, self._folder, env=self._env)
            self._wait(partial(self._has_started_or_ended, child), name)
            if child.process.poll() is None:
                return child
        raise child.failure(f"ended with status {child.process.returncode}")

    def _has_started_or_ended(self, child: Child) -> bool:
        return _STARTED in self._log(child) or child.process.poll() is not None

    @staticmethod
    def replicas(node: Child) -> list[int]:
        """Process ids of the replicas on a node."""
        found = []
        for process in node.processes():
            with suppress(OSError):
                title = Path(f"/proc/{process.pid}/cmdline").read_bytes()
                if title.startswith(b"ray::ServeReplica:genserve"):
                    found.append(process.pid)
        return found

    def up(self) -> int:
        """How many replicas the proxy sends requests to."""
        with suppress(BenchError):
            return len(_UP.findall(self._figures.text("/metrics")))
        return 0

    def wait_up(self, count: int) -> None:
        """Until the proxy sends requests to so many replicas."""
        self._wait(lambda: self.up() == count, f"{count} replicas at the proxy")

    @staticmethod
    def kill(pids: list[int]) -> None:
        """SIGKILL, all at once."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def pss_mib(self) -> float:
        """MiB of memory of all processes together."""
        return (
            sum(processes.pss(child.processes()) for child in (self.head, self.other, self.server))
            / 2**20
        )


def chaos(cluster: Cluster, kills: int, between: int) -> Callable[[Tally], Awaitable[None]]:
    """Kill a replica so many times, until Ray has replaced it, then the second node."""

    async def run(tally: Tally) -> None:
        for i in range(kills):
            await progress(tally, between)
            node = (cluster.head, cluster.other)[i % 2]
            killed = cluster.replicas(node)[:1]
            if not killed:
                raise BenchError(f"no replica on {node.name}")
            cluster.kill(killed)
            await asyncio.to_thread(cluster.wait_up, 1)
            await asyncio.to_thread(cluster.wait_up, 2)
        await progress(tally, between)
        cluster.kill([process.pid for process in cluster.other.processes()])
        await asyncio.to_thread(cluster.wait_up, 1)
        await progress(tally, between)

    return run


def _rates(port: int, seconds: int) -> list[str]:
    url = f"http://{HOST}:{port}/generate?label={LABEL}"
    wrk.run(url, 32, 2)  # warms it up
    return [f"{wrk.run(url, n, seconds)['per_s']:,.0f}" for n in (1, 32)]


def compare(folder: Path, store: Path, seconds: int) -> list[str]:
    """Lines of a table: what Ray costs beside haproxy and two plain replicas."""
    lines = ["| | ready in s | 1 connection, requests/s | 32 | MiB |", "|---|---|---|---|---|"]
    with ExitStack() as stack:
        began = time.monotonic()
        options = ["--models-dir", str(store)]
        replicas = [Replica(stack, folder, f"plain-{i}", options) for i in range(2)]
        balancer = haproxy(stack, folder, replicas)
        ready_s = time.monotonic() - began
        servers = [balancer.server, *(replica.server for replica in replicas)]
        cells = _rates(balancer.server.port, seconds)
        mib = sum(server.pss_mib() for server in servers)
        lines.append(
            f"| haproxy, 2 plain replicas | {ready_s:.1f} | {' | '.join(cells)} | {mib:,.0f} |"
        )
    with ExitStack() as stack:
        cluster = Cluster(stack, folder, {"GENSERVE_MODELS_DIR": str(store)})
        cells = _rates(cluster.server.port, seconds)
        mib = cluster.pss_mib()
        lines.append(
            f"| Ray Serve, 2 nodes | {cluster.ready_s:.1f} | {' | '.join(cells)} | {mib:,.0f} |"
        )
    return lines


def under_chaos(
    folder: Path, settings: Mapping[str, str], requests: int, kills: int, between: int
) -> Tally:
    """What clients see while replicas and a node are killed."""
    with ExitStack() as stack:
        cluster = Cluster(stack, folder, settings)
        meanwhile = chaos(cluster, kills, between)
        return asyncio.run(load(cluster.server.port, requests, meanwhile))


def scaled_after_s(folder: Path, settings: Mapping[str, str]) -> tuple[float, Tally]:
    """Seconds of load until the autoscaler's second replica serves, and what clients saw."""
    with ExitStack() as stack:
        cluster = Cluster(stack, folder, settings, replicas=(1, 2))
        began = time.monotonic()

        async def until_scaled(_: Tally) -> None:
            await asyncio.to_thread(cluster.wait_up, 2)

        tally = asyncio.run(load(cluster.server.port, 1, until_scaled))
        return time.monotonic() - began, tally


def main(arguments: list[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        "python -m bench ray", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("what", choices=("kills", "scaling", "costs"), help="what to show")
    parser.add_argument("--requests", type=int, default=5000, help="of kills: at least so many")
    parser.add_argument("--kills", type=int, default=3, help="of a replica, before the node's")
    parser.add_argument("--seconds", type=int, default=5, help="of costs: each measurement")
    parser.add_argument("--models-dir", type=Path, help="as of python -m app")
    args = parser.parse_args(arguments)
    store = rig.store(args.models_dir)
    with tempfile.TemporaryDirectory(prefix="ray") as name:
        if args.what == "costs":
            print("\n".join(compare(Path(name), store, args.seconds)))
            return
        settings = {"GENSERVE_MODELS_DIR": str(store)}
        if args.what == "scaling":
            seconds, tally = scaled_after_s(Path(name), settings)
            told = f"{seconds:.0f} s of load, until a second replica served"
        else:
            told = f"the killing of {args.kills} replicas and a node"
            tally = under_chaos(Path(name), settings, args.requests, args.kills, 100)
    if not tally.report(told):
        sys.exit(1)
