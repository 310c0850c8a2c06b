"""Peers take turns: each round starts, measures and stops every server, one after the other."""

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

from bench import processes, rig
from bench.children import BenchError, Server
from bench.report import Result, Samples, table

OURS = "ours"
MANY, MANY_CONNECTIONS = 64, 16  # images a request, and connections that ask for them

Turn = dict[str, float]  # name of a figure -> value
Body = Callable[[int], str]  # images a request -> JSON


def measured(server: Server, path: str, body: Body | None, start_s: float, args: Namespace) -> Turn:
    """Figures of a server that answers already.

    Args:
        server: Ready.
        path: Of the requests.
        body: What they say; None = ours, whose query says it.
        start_s: Seconds that the start took.
        args: ``connections``, ``seconds``, ``label``.
    """
    one, many = (
        (f"{path}?label={args.label}&n={n}" if body is None else path, body(n) if body else None)
        for n in (1, MANY)
    )
    server.fresh(*one)
    rig.loaded(server, one[0], 64, 2, one[1])  # warms up
    turn: Turn = {"start s": start_s}
    for connections in args.connections:
        before = processes.cpu_s(server.processes())
        told = rig.loaded(server, one[0], connections, args.seconds, one[1])
        used = processes.cpu_s(server.processes()) - before
        turn |= {f"{name} at {connections}": told[name] for name in ("per_s", "p50_ms", "p99_ms")}
        turn[f"cpu_us at {connections}"] = used / told["requests"] * 1e6
    turn["pss_mib"] = server.pss_mib()
    told = rig.loaded(server, many[0], MANY_CONNECTIONS, args.seconds, many[1])
    turn["images/s of 64"] = told["per_s"] * MANY
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
    connections = sorted(
        {int(name.rpartition(" ")[2]) for name in result.samples if ": per_s at " in name}
    )
    rows = []
    for peer in sorted(peers, key=rate, reverse=True):
        rates = [
            f"{cell(peer, f'per_s at {c}', 0)} · {cell(peer, f'p50_ms at {c}', 1)}/"
            f"{cell(peer, f'p99_ms at {c}', 1)}"
            for c in connections
        ]
        busiest = 64 if 64 in connections else connections[-1]
        rest = [(f"cpu_us at {busiest}", 0), ("images/s of 64", 0), ("start s", 1), ("pss_mib", 0)]
        rows.append([peer, *rates, *(cell(peer, name, digits) for name, digits in rest)])
    heads = [f"{c}: requests/s · p50/p99 ms" for c in connections]
    text = table(
        ["", *heads, "CPU µs a request", "images/s, 64 a request", "start s", "PSS MiB"], rows
    )
    failures = result.about.get("failures")
    for name, why in failures.items() if isinstance(failures, dict) else ():
        text += f"\n\n**{name}** has no figures: {why}"
    return text
