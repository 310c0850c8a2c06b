"""Open loop at shares of the measured capacity, for ours and, to see the generator, for floor A."""

from argparse import Namespace
from contextlib import ExitStack

from bench import client, rig
from bench.report import Result, Samples
from bench.rounds import rounds

SHARES = (0.5, 0.8, 0.95)  # of what the closed loop reaches
CONNECTIONS, CLOSED = 256, 64


def run(args: Namespace) -> Result:
    """Latencies from the time at which a request was due, in ms.

    Each round measures the capacity anew, just before it is used: machines drift. Floor A gets the
    rates of ours: what it shows is the generator, the kernel and HTTP.
    """
    samples: Samples = {}
    capacity = 0.0
    loads = [(target, share) for share in SHARES for target in ("ours", "A")]
    kinds: list[tuple[str, float]] = [("capacity", 1.0), *loads]
    with ExitStack() as stack:
        folder = rig.folder(stack)
        ours = rig.Service(stack, folder, args)
        floor = rig.floor(stack, folder, "bare", args.floor_workers)
        urls = {"ours": ours.url + ours.path, "A": f"{floor.url}/generate"}
        for number, (target, share), seconds in rounds(kinds, args):
            if target == "capacity" or not capacity:  # a backward round begins without one
                capacity = ours.load(CLOSED, seconds)["per_s"]
            if target == "capacity":
                found = {"capacity, requests/s": capacity}
            else:
                rate = share * capacity
                told = client.finish(client.start(urls[target], rate, seconds, CONNECTIONS))
                place = f"{target} at {share:.0%}"
                found = {f"{place}, {name}": told[name] for name in ("p50_ms", "p99_ms", "max_ms")}
                found[f"{place}, not answered 200"] = sum(
                    told[name] for name in ("refused", "other", "broken")
                )
                found[f"{place}, generator's lag p99_ms"] = told["lag_p99_ms"]
                found[f"{place}, generator's share of a core"] = told["cpu_share"]
            for name, value in found.items() if number else ():
                samples.setdefault(name, []).append(value)
    about: dict[str, object] = {"model": ours.model, "connections": CONNECTIONS}
    return Result("open", about, dict(sorted(samples.items())))
