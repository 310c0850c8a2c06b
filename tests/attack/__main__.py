"""``python -m tests.attack``: every kind of attack on a service, then a soak, and a table.

Starts a service with two workers, unless --url names one that runs on this machine (then --pid is
its first process). Beside each attack a bystander asks for ten digits a second from another
address. Memory is the sum of Pss of all processes. Attackers get what CPU the service leaves, since
elsewhere they have machines of their own.

The positive control, --leak, keeps 64 KiB in the service for each malformed request: the soak
has to report its growth, or it would not report any.
"""

import argparse
import asyncio
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.attack.bystander import Seen
from tests.attack.kinds import KINDS, SOAK, Attack, Target, attack

ROOT = Path(__file__).parents[2]
_LEAKING = """
import sys
from app.__main__ import main
from app.http.fast_path import FastPath
kept, original = [], FastPath.unrouted_error
def leak(self, *of):
    kept.append(bytearray(65536))
    return original(self, *of)
FastPath.unrouted_error = leak
main(sys.argv[1:])
"""
_SAMPLE_S = 2.0


class Use(NamedTuple):
    """What the service's processes take."""

    megabytes: float
    descriptors: int
    workers: tuple[int, ...]  # with the first process; the codec's below them come and go


def use(pid: int) -> Use:
    """Of a process and all below it. Those that end meanwhile, as the codec's do, are left out."""
    pids, workers = [pid], [pid]
    kilobytes = descriptors = 0
    while pids:
        one = pids.pop()
        with suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{one}/task").glob("*/children"):
                children = list(map(int, task.read_text().split()))
                pids += children
                workers += children if one == pid else []
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
            if pss := re.search(r"^Pss:\s+(\d+)", rollup, re.M):  # a zombie has none
                kilobytes += int(pss[1])
                descriptors += len(list(Path(f"/proc/{one}/fd").iterdir()))
    return Use(kilobytes / 1024, descriptors, tuple(sorted(workers)))


@contextmanager
def service(leak: bool, options: list[str]) -> Iterator[tuple[str, int]]:
    """One that is started for this: its address and first process."""
    program = ["-c", _LEAKING] if leak else ["-m", "app"]
    process = subprocess.Popen(
        [sys.executable, *program, "--port", "0", "--workers", "2", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout
        yield process.stdout.readline().rpartition(" ")[2].strip().rstrip("/"), process.pid
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.wait()


class Watch:
    """The bystander, and what the service takes meanwhile."""

    def __init__(self, stack: ExitStack, url: str, pid: int) -> None:
        self._pid = pid
        self.samples: list[tuple[float, Use]] = []
        self._bystander = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "tests.attack.bystander", url],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )

    def seen(self) -> Seen:
        """What the bystander saw since the last call."""
        assert self._bystander.stdin
        assert self._bystander.stdout
        self._bystander.stdin.write("\n")
        self._bystander.stdin.flush()
        found: Seen = json.loads(self._bystander.stdout.readline())
        return found

    async def sample(self) -> None:
        """Look at the service every two seconds."""
        while True:
            self.samples.append((time.monotonic(), await asyncio.to_thread(use, self._pid)))
            await asyncio.sleep(_SAMPLE_S)


def centile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))] if times else float("nan")


def growth(samples: list[tuple[float, Use]]) -> float:
    """Megabytes an hour after the first third: the slope of the least squares."""
    kept = samples[len(samples) // 3 :]
    if len(kept) < 3:
        return float("nan")
    mean_t = sum(t for t, _ in kept) / len(kept)
    mean_m = sum(u.megabytes for _, u in kept) / len(kept)
    spread = sum((t - mean_t) ** 2 for t, _ in kept)
    return 3600 * sum((t - mean_t) * (u.megabytes - mean_m) for t, u in kept) / spread


HEAD = (
    "| Attack | Times | MB: before, most, after | Descriptors: before, most, after | "
    "Digit: p50, p99 in ms | /livez: p99, longest in ms | Unanswered |\n|" + " --- |" * 7
)


def row(name: str, attacks: int, samples: list[tuple[float, Use]], seen: Seen) -> str:
    first, last = samples[0][1], samples[-1][1]
    megabytes = max(u.megabytes for _, u in samples)
    descriptors = max(u.descriptors for _, u in samples)
    digits, livez = seen["digits"], seen["livez"]
    lost = "" if first.workers == last.workers else ", a worker was replaced"
    return (
        f"| {name} | {attacks} | {first.megabytes:.0f}, {megabytes:.0f}, {last.megabytes:.0f} | "
        f"{first.descriptors}, {descriptors}, {last.descriptors} | "
        f"{centile(digits, 0.5):.0f}, {centile(digits, 0.99):.0f} | "
        f"{centile(livez, 0.99):.0f}, {max(livez, default=float('nan')):.0f} | "
        f"{len(seen['failures'])} of {len(digits) + len(livez) + len(seen['failures'])}{lost} |"
    )


async def run(given: argparse.Namespace, url: str, pid: int, stack: ExitStack) -> None:
    watch, target = Watch(stack, url, pid), Target(url)
    os.nice(10)
    sampling = asyncio.create_task(watch.sample())
    await asyncio.sleep(3)  # the bystander's own start
    watch.seen()
    print(HEAD)
    left_out = set(given.without)
    if given.only:
        left_out |= {one.__name__ for one, _ in KINDS.values()}.difference(given.only)
    kinds_wanted = {n: k for n, k in KINDS.items() if k[0].__name__ not in left_out}
    soak = ([one for one in SOAK if one.__name__ not in left_out], 24)
    rounds: list[tuple[str, list[Attack], int, float]] = []
    if given.seconds:
        rounds = [("none", [], 0, given.seconds)]
        rounds += [(name, [one], many, given.seconds) for name, (one, many) in kinds_wanted.items()]
    rounds += [("soak", *soak, given.soak)] if given.soak else []
    failures: list[str] = []
    for name, kinds, at_a_time, seconds in rounds:
        begun, target.attacks = len(watch.samples), 0
        per_s = given.soak_rate if name == "soak" else math.inf
        await (
            attack(target, kinds, at_a_time, seconds, per_s) if kinds else asyncio.sleep(seconds)
        )
        seen = watch.seen()
        await asyncio.sleep(given.rest)  # what it held is to be given back
        watch.samples.append((time.monotonic(), use(pid)))
        print(row(name, target.attacks, watch.samples[max(0, begun - 1) :], seen), flush=True)
        failures += [f"{name}: {failure}" for failure in seen["failures"][:3]]
        watch.seen()
        if name == "soak":
            grown = growth(watch.samples[begun:-1])
            print(f"\nGrowth in the soak after its first third: {grown:.1f} MB an hour")
    assert not sampling.done(), sampling
    sampling.cancel()
    print("\n".join(failures))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each attack; 0 = none")
    parser.add_argument("--soak", type=float, default=60, help="seconds of the soak; 0 = none")
    parser.add_argument(
        "--soak-rate", type=float, default=math.inf, help="attacks a second in the soak, at most"
    )
    parser.add_argument("--rest", type=float, default=3, help="seconds between two attacks")
    names = sorted(one.__name__ for one, _ in KINDS.values())
    parser.add_argument(
        "--without", action="append", default=[], choices=names, help="leave a kind out"
    )
    parser.add_argument("--only", action="append", choices=names, help="of the kinds, this")
    parser.add_argument("--leak", action="store_true", help="the positive control")
    parser.add_argument("--url", help="a service that runs already")
    parser.add_argument("--pid", type=int, help="its first process")
    given, options = parser.parse_known_args()
    with ExitStack() as stack:
        if given.url:
            url, pid = given.url.rstrip("/"), given.pid
        else:
            url, pid = stack.enter_context(service(given.leak, options))
        asyncio.run(run(given, url, pid, stack))


if __name__ == "__main__":
    main()
