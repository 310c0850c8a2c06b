"""More than the capacity: what is still served, how fast, and how the rest is refused.

The service has one half of the cores, and what asks has the other: to ask twice as often takes
twice the work, which would otherwise come off what is served.
"""

import math
import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench import client, processes, rig
from bench.report import Result, Samples
from bench.rounds import rounds

OFFERED = (1.2, 2.0)  # of the capacity that the closed loop has just shown
QUEUE_S = 0.25  # more than an answer takes, even for a burst's length
CLOSED = 128  # connections that keep its batches full, and wait for less than its target
MOST_CONNECTIONS = 8192
PROBES_PER_S = 100  # of /livez: enough in few seconds for a p99 that is no maximum


def connections_for(rate: float) -> int:
    """Enough for so many requests a second: fewer would throttle what is offered."""
    return min(MOST_CONNECTIONS, math.ceil(1.5 * QUEUE_S * rate))


def halves(cores: set[int]) -> tuple[set[int], set[int]]:
    """Cores for the service and for what asks; both on the one if there is no other."""
    ordered = sorted(cores)
    half = len(ordered) // 2
    return (set(ordered[:half]), set(ordered[half:])) if half else (cores, cores)


@contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """What is started meanwhile runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(args: Namespace) -> Result:
    """Goodput over capacity, p99 of what was served, /livez beside it, and the refusals."""
    samples: Samples = {}
    ours_on, asks_on = halves(os.sched_getaffinity(0))
    with ExitStack() as stack:
        folder = rig.folder(stack)
        # What is measured is the queue: connections over the limit would be closed and come again.
        room = str(MOST_CONNECTIONS + 64)
        with on(ours_on):
            ours = rig.Service(stack, folder, args, "--max-connections", room)
            floor = rig.floor(stack, folder, "bare", args.workers or len(ours_on))
        for number, offered, seconds in rounds(OFFERED, args):
            with on(asks_on):
                constant = rig.loaded(floor, "/generate", CLOSED, seconds)["per_s"]
                capacity = ours.load(CLOSED, seconds)["per_s"]
                rate = offered * capacity
                many = connections_for(rate)
                before = processes.cpu_s(ours.processes())
                load = client.start(ours.url + ours.path, rate, seconds, many)
                probe = client.start(f"{ours.url}/livez", PROBES_PER_S, seconds, 16, "GET")
            told, alive = client.finish(load), client.finish(probe)
            used_s = processes.cpu_s(ours.processes()) - before
            found = {
                "offered / capacity": told["offered_per_s"] / capacity,
                "goodput / capacity": told["ok_per_s"] / capacity,
                "p50 ms of the accepted": told["p50_ms"],
                "p99 ms of the accepted": told["p99_ms"],
                "p50 ms of /livez": alive["p50_ms"],
                "p99 ms of /livez": alive["p99_ms"],
                "/livez not answered 200": alive["refused"] + alive["other"] + alive["broken"],
                "refused, share of all": told["refused"] / (told["ok"] + told["refused"]),
                "503 without Retry-After": told["refused_without_retry"],
                "other statuses and broken connections": told["other"] + told["broken"],
                "CPU of the service, cores": used_s / seconds,
                "connections": many,
                "generator's lag p99 ms": told["lag_p99_ms"],
                "generator's share of a core": told["cpu_share"],
            }
            # What is left if a refusal takes the time that bare ASGI takes for any answer.
            left = 1 - told["refused"] / seconds / constant
            if left > 0:
                found["goodput / bound"] = found["goodput / capacity"] / left
            for name, value in found.items() if number else ():
                samples.setdefault(f"at {offered:.0%}: {name}", []).append(value)
    about: dict[str, object] = {"model": ours.model, "cores": [len(ours_on), len(asks_on)]}
    return Result("overload", about, samples)
