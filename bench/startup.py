"""From the start of the process to the first digit, and the memory after some work."""

from argparse import Namespace
from contextlib import ExitStack

from bench import rig
from bench.report import Result, Samples
from bench.rounds import rounds

CONNECTIONS = 64


def run(args: Namespace) -> Result:
    """A start a round. Memory is PSS: pages that processes share are counted once."""
    samples: Samples = {}
    model = ""
    for number, _, seconds in rounds(["start"], args):
        with ExitStack() as stack:
            ours = rig.Service(stack, rig.folder(stack), args)
            model = ours.model
            ours.load(CONNECTIONS, seconds)
            found = {
                "start to first digit, s": ours.start_s,
                "processes": len(ours.processes()),
                "PSS of all, MiB": ours.pss_mib(),
                "PSS a process, MiB": ours.pss_mib() / len(ours.processes()),
            }
        for name, value in found.items() if number else ():
            samples.setdefault(name, []).append(value)
    return Result("start", {"model": model}, samples)
