"""Peers take turns: each round starts, measures and stops every server, one after the other."""

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

from bench import processes, rig
from bench.children import BenchError, Server
from bench.peers.ways import BULK, BUSIEST, Way, haproxy
from bench.report import Result, Samples, table

OURS = "ours"
_FIGURES = ("per_s", "p50_ms", "p99_ms", "failed")

Turn = dict[str, float]  # name of a figure -> value


def measured(server: Server, ways: Sequence[Way], start_s: float, args: Namespace) -> Turn:
    """Figures of a server that answers already. CPU time is of all its processes, haproxy's not
    among them; replies that fail are counted, and are no part of a rate.

    Args:
        server: Ready.
        ways: To ask it.
        start_s: Seconds that the start took.
        args: ``seconds``.
    """
    turn: Turn = {"start s": start_s}
    warm = ways[0]
    rig.loaded(server, warm.path, BUSIEST, 2, *warm.arguments, tolerant=True)
    turn["pss_mib"] = server.pss_mib()
    for way in ways:
        with ExitStack() as stack:
            target = haproxy(stack, rig.folder(stack), server) if way.proxied else server
            if way.proxied:
                target.wait("POST", way.path, *way.arguments)
            before = processes.cpu_s(server.processes())
            told = rig.loaded(
                target, way.path, way.connections, args.seconds, *way.arguments, tolerant=True
            )
            used_s = processes.cpu_s(server.processes()) - before
        turn |= {f"{name} at {way.name}": told[name] for name in _FIGURES}
        turn[f"cpu_us at {way.name}"] = used_s / told["requests"] * 1e6
        if way.name == BULK:
            turn["images/s of 64"] = told["per_s"] * way.images
    return turn


@dataclass
class Figures:
    """What was found, and why some have nothing."""

    turns: dict[str, list[Turn]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def result(self, about: dict[str, object]) -> Result:
        """Samples are named ``<peer>: <figure>``."""
        samples: Samples = {}
        for peer, turns in self.turns.items():
            for turn in turns:
                for name, value in turn.items():
                    samples.setdefault(f"{peer}: {name}", []).append(value)
        return Result("peers", {**about, "failures": self.failures}, samples)


def take_turns(turns: Mapping[str, Callable[[], Turn]], rounds: int, found: Figures) -> None:
    """Every second round runs backwards. Who fails once is told so and left out from then on."""
    for number in range(1, rounds + 1):
        for name in list(turns)[:: 1 if number % 2 else -1]:
            if name in found.failures:
                continue
            print(f"round {number}: {name}", file=sys.stderr, flush=True)
            try:
                found.turns.setdefault(name, []).append(turns[name]())
            except BenchError as error:
                found.failures[name] = str(error).partition("; the end of its log")[0]
                print(f"{name}: {error}", file=sys.stderr, flush=True)


def markdown(result: Result) -> str:
    """A row for each server, the fastest at 64 connections first; then who has none, and why."""

    def cell(peer: str, name: str, digits: int) -> str:
        values = result.samples.get(f"{peer}: {name}")
        return f"{median(values):,.{digits}f}" if values else ""

    def rate(peer: str) -> float:
        return median(result.samples.get(f"{peer}: per_s at 64", [0.0]))

    peers = {name.partition(":")[0] for name in result.samples}
    all_ways = dict.fromkeys(n.partition(" at ")[2] for n in result.samples if ": per_s at " in n)
    loads = sorted((way for way in all_ways if way.isdecimal()), key=int)
    others = [way for way in all_ways if not way.isdecimal() and way != BULK]
    rows = []
    for peer in sorted(peers, key=rate, reverse=True):
        rates = [
            f"{cell(peer, f'per_s at {way}', 0)} · {cell(peer, f'p50_ms at {way}', 1)}/"
            f"{cell(peer, f'p99_ms at {way}', 1)} · {cell(peer, f'cpu_us at {way}', 0)}"
            if f"{peer}: per_s at {way}" in result.samples
            else ""
            for way in (*loads, *others)
        ]
        rest = [("images/s of 64", 0), ("start s", 1), ("pss_mib", 0)]
        failed = sum(
            sum(values)
            for name, values in result.samples.items()
            if name.startswith(f"{peer}: failed at ")
        )
        cells = [cell(peer, name, digits) for name, digits in rest]
        rows.append([peer, *rates, *cells, f"{failed:,.0f}"])
    heads = [f"{way}: requests/s · p50/p99 ms · CPU µs" for way in (*loads, *others)]
    text = table(["", *heads, "images/s, 64 a request", "start s", "PSS MiB", "failed"], rows)
    failures = result.about.get("failures")
    for name, why in failures.items() if isinstance(failures, dict) else ():
        text += f"\n\n**{name}** has no figures: {why}"
    return text
