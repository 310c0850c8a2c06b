"""From figures to the markdown tables: medians, spreads, and ratios within each round."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OURS, BARE, FASTAPI, MODEL = "ours", "A (bare ASGI)", "F (FastAPI)", "M (generator alone)"
TARGETS = (OURS, BARE, FASTAPI, MODEL)


@dataclass(frozen=True)
class Figure:
    """One target measured once."""

    round: int
    connections: int
    target: str  # one of TARGETS
    per_s: float  # requests a second; images for MODEL
    p50_ms: float  # of a request; of a pass for MODEL
    p99_ms: float
    images_per_pass: float | None = None  # None for what runs no model, or where it is not known


def ratios(ours: Figure, bare: Figure, fastapi: Figure, model: Figure) -> dict[str, float]:
    """One round at one number of connections.

    The bound, 1 / (1/A + 1/M), answers as fast as A, then generates as fast as M, one after the
    other, and does nothing else. The latency ratio is the same for a request that is alone.
    """
    found = {
        "ours / bound": ours.per_s * (1 / bare.per_s + 1 / model.per_s),
        "ours / F": ours.per_s / fastapi.per_s,
        "ours / A": ours.per_s / bare.per_s,
    }
    if ours.connections == 1:
        found["p50 / (A + M)"] = ours.p50_ms / (bare.p50_ms + model.p50_ms)
    return found


def all_ratios(figures: Sequence[Figure]) -> dict[int, dict[str, list[float]]]:
    """Connections -> name -> one ratio a round, each from figures measured side by side."""
    found: dict[int, dict[str, list[float]]] = {}
    by_place = {(f.connections, f.round, f.target): f for f in figures}
    for connections, number in dict.fromkeys((f.connections, f.round) for f in figures):
        row = [by_place[connections, number, target] for target in TARGETS]
        for name, value in ratios(*row).items():
            found.setdefault(connections, {}).setdefault(name, []).append(value)
    return found


def spread(values: Iterable[float | None], digits: int) -> str:
    """``median (least-greatest)`` of the values that are there."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    median, low, high = statistics.median(known), min(known), max(known)
    return f"{median:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def markdown(figures: Sequence[Figure]) -> str:
    """Two tables: the ratios, then the absolute figures they come from."""
    found = all_ratios(figures)
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    above = [[str(c), *(spread(row.get(n, []), 2) for n in names)] for c, row in found.items()]
    below = []
    for connections in found:
        for target in TARGETS:
            some = [f for f in figures if (f.connections, f.target) == (connections, target)]
            below.append(
                [
                    str(connections),
                    target,
                    spread((f.per_s for f in some), 0),
                    spread((f.p50_ms for f in some), 2),
                    spread((f.p99_ms for f in some), 2),
                    spread((f.images_per_pass for f in some), 1),
                ]
            )
    return (
        _table(["connections", *names], above)
        + "\n\nAbsolute figures, of this machine and this run only:\n\n"
        + _table(["connections", "", "a second", "p50 ms", "p99 ms", "images a pass"], below)
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
