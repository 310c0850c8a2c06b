"""Twice the capacity: what is still served, how fast, and how the rest is refused."""

import math
from argparse import Namespace
from contextlib import ExitStack

from bench import client, rig
from bench.report import Result, Samples
from bench.rounds import rounds

OFFERED = 2.0  # of the capacity that the closed loop has just shown
QUEUE_S = 1.0  # the service's default max_queue_ms
CLOSED = 256  # connections that keep its batches full
MOST_CONNECTIONS = 8192


def connections_for(capacity: float) -> int:
    """Enough to keep more than QUEUE_S of work waiting: fewer would throttle what is offered."""
    return min(MOST_CONNECTIONS, math.ceil(1.5 * OFFERED * QUEUE_S * capacity))


def run(args: Namespace) -> Result:
    """Goodput over capacity, p99 of what was served, /livez beside it, and the refusals."""
    samples: Samples = {}
    with ExitStack() as stack:
        # What is measured is the queue: connections over the limit would be closed and come again.
        room = str(MOST_CONNECTIONS + 64)
        ours = rig.Service(stack, rig.logs(stack), args, "--max-connections", room)
        for number, _, seconds in rounds(["overload"], args):
            capacity = ours.load(CLOSED, seconds)["per_s"]
            rate, many = OFFERED * capacity, connections_for(capacity)
            load = client.start(ours.url + ours.path, rate, seconds, many)
            probe = client.start(f"{ours.url}/livez", 20, seconds, 4, "GET")
            told, alive = client.finish(load), client.finish(probe)
            found = {
                "offered / capacity": told["offered_per_s"] / capacity,
                "goodput / capacity": told["ok_per_s"] / capacity,
                "p50 ms of the accepted": told["p50_ms"],
                "p99 ms of the accepted": told["p99_ms"],
                "p99 ms of /livez": alive["p99_ms"],
                "/livez not answered 200": alive["refused"] + alive["other"] + alive["broken"],
                "refused, share of all": told["refused"] / (told["ok"] + told["refused"]),
                "503 without Retry-After": told["refused_without_retry"],
                "other statuses and broken connections": told["other"] + told["broken"],
                "connections": many,
                "generator's lag p99 ms": told["lag_p99_ms"],
                "generator's share of a core": told["cpu_share"],
            }
            for name, value in found.items() if number else ():
                samples.setdefault(name, []).append(value)
    return Result("overload", {"model": ours.model}, samples)
