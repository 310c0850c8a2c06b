"""``python -m bench failover``: kill and restart replicas behind a load balancer under load.

No request may fail, each seed has one digest whatever replica answers, and a refusal is one refusal
at the replicas too.
"""

import argparse
import asyncio
import hashlib
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import rig
from bench.cluster.balancers import BALANCERS, Balancer, haproxy
from bench.cluster.replicas import Replica

CONNECTIONS, SEEDS, LABEL = 16, 50, 7
DRAIN = ("--drain-delay-seconds", "2")  # in which the balancer notices a red /readyz
_ANSWER_S = 60
Start = Callable[[ExitStack, Path, list[Replica]], Balancer]


@dataclass
class Tally:
    """What clients saw."""

    answered: int = 0  # with 200
    refused: int = 0  # with 503 and Retry-After
    failed: list[str] = field(default_factory=list)  # anything else
    digests: dict[int, set[str]] = field(default_factory=dict)  # of a seed's images

    def add(self, seed: int, status: int, head: bytes, body: bytes) -> None:
        """Count a response."""
        if status == 200:
            self.answered += 1
            self.digests.setdefault(seed, set()).add(hashlib.sha256(body).hexdigest())
        elif status == 503 and b"retry-after:" in head.lower():
            self.refused += 1
        else:
            self.failed.append(f"status {status}: {body[:200]!r}")

    def report(self, over: str) -> bool:
        """Print it; whether nothing failed, and no seed had two digests.

        Args:
            over: What happened meanwhile.
        """
        most = max((len(digests) for digests in self.digests.values()), default=0)
        print(
            f"{self.answered} requests answered over {over}; {len(self.failed)} failed, "
            f"{self.refused} refused\n{len(self.digests)} seeds, at most {most} digest each"
        )
        for failure in sorted(set(self.failed)):
            print(f"failed: {self.failed.count(failure)} x {failure}")
        return not self.failed and most == 1


async def _client(port: int, tally: Tally, take: Callable[[], int | None]) -> None:
    """Ask for one image after another on a connection that is kept; a lost one is a failure."""
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while (seed := take()) is not None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                streams = streams or await asyncio.open_connection("127.0.0.1", port)
                reader, writer = streams
                target = f"/generate?label={LABEL}&seed={seed}"
                writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                tally.add(seed, int(head.split(b" ", 2)[1]), head, await reader.readexactly(size))
                if b"connection: close" in head.lower():
                    writer.close()
                    streams = None
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            tally.failed.append(repr(error))
            if streams:
                streams[1].close()
            streams = None
    if streams:
        streams[1].close()


async def load(
    port: int,
    requests: int,
    meanwhile: Callable[[Tally], Awaitable[None]] | None = None,
    connections: int = CONNECTIONS,
) -> Tally:
    """Keep connections busy until so many requests are answered and ``meanwhile`` is over."""
    tally, asked, over = Tally(), 0, meanwhile is None

    def take() -> int | None:
        nonlocal asked
        if over and asked >= requests:
            return None
        asked += 1
        return asked % SEEDS

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_client(port, tally, take))
        if meanwhile:
            try:
                await meanwhile(tally)
            finally:
                over = True
    return tally


async def progress(tally: Tally, count: int) -> None:
    """Wait until so many more requests are answered."""
    aim = tally.answered + count
    while tally.answered < aim and len(tally.failed) < 100:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def chaos(
    balancer: Balancer, replicas: list[Replica], kills: int, between: int, rolling: bool = True
) -> Callable[[Tally], Awaitable[None]]:
    """Kill one replica after the other, ``between`` responses apart, then restart them in turn."""

    async def run(tally: Tally) -> None:
        for i in range(kills):
            replica = replicas[i % len(replicas)]
            await progress(tally, between)
            await asyncio.to_thread(replica.kill)
            await progress(tally, between)
            replica.start()
            await asyncio.to_thread(replica.wait)
            await asyncio.to_thread(balancer.wait_up, i % len(replicas))
        for i, replica in enumerate(replicas if rolling else []):
            await asyncio.to_thread(replica.stop)
            replica.start()
            await asyncio.to_thread(replica.wait)
            await asyncio.to_thread(balancer.wait_up, i)

    return run


@dataclass(frozen=True)
class Amplified:
    """Refusals under overload."""

    seen: int  # by clients
    counted: float  # by replicas
    failed: int  # other than refusals


def overload(folder: Path, options: list[str], requests: int, start: Start = haproxy) -> Amplified:
    """Refusals that clients saw, and those that replicas counted, with queues of two images."""
    with ExitStack() as stack:
        few = [*options, "--queue-limit", "2", "--max-n", "2"]
        replicas = [Replica(stack, folder, f"full-{i}", few) for i in range(2)]
        for replica in replicas:
            replica.wait()
        balancer = start(stack, folder, replicas)
        tally = asyncio.run(load(balancer.server.port, requests, connections=48))
        counted = sum(replica.counted("genserve_refused_requests_total") for replica in replicas)
        return Amplified(tally.refused, counted, len(tally.failed))


def under_chaos(
    folder: Path,
    options: list[str],
    requests: int,
    kills: int,
    between: int,
    rolling: bool = True,
    start: Start = haproxy,
) -> Tally:
    """What clients of two replicas behind a balancer see while these are killed and restarted."""
    with ExitStack() as stack:
        replicas = [Replica(stack, folder, f"replica-{i}", options) for i in range(2)]
        for replica in replicas:
            replica.wait()
        balancer = start(stack, folder, replicas)
        meanwhile = chaos(balancer, replicas, kills, between, rolling)
        return asyncio.run(load(balancer.server.port, requests, meanwhile))


def main(arguments: list[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        "python -m bench failover", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=10_000, help="at least so many")
    parser.add_argument("--kills", type=int, default=9, help="of a replica, with SIGKILL")
    parser.add_argument("--balancer", choices=BALANCERS, default="haproxy", help="before them")
    parser.add_argument("--models-dir", type=Path, help="as of python -m app")
    args = parser.parse_args(arguments)
    start = BALANCERS[args.balancer]
    options = ["--models-dir", str(rig.store(args.models_dir)), *DRAIN]
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        tally = under_chaos(Path(folder), options, args.requests, args.kills, 100, start=start)
        full = overload(Path(folder), options, 4000, start)
    sound = tally.report(f"{args.kills} kills and a rolling restart of 2 replicas")
    amplified = full.counted / max(1, full.seen)
    print(
        f"overload: {full.seen} refusals seen by clients, {full.counted:.0f} at the replicas "
        f"({amplified:.3f} times), {full.failed} failed"
    )
    if not sound or full.failed or amplified > 1.1:
        sys.exit(1)
