"""From figures to tables: medians, spreads, and ratios within each round."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

OURS, SEEDED = "ours", "ours, seeded"
BARE, FASTAPI, MODEL = "A (bare ASGI)", "F (FastAPI)", "M (generator alone)"
BARE_1, FASTAPI_1 = "A, one worker", "F, one worker"

Samples = dict[str, list[float]]  # what was measured -> one value a round


@dataclass(frozen=True)
class Figure:
    """One target measured once."""

    round: int
    connections: int
    target: str
    per_s: float  # requests a second; images for MODEL
    p50_ms: float  # of a request; of a pass for MODEL
    p99_ms: float
    images_per_pass: float | None = None  # None for what runs no model, or where it is not known

    @classmethod
    def of(cls, number: int, connections: int, target: str, told: Mapping[str, float]) -> "Figure":
        """From the counts of wrk, of the service or of the generator."""
        return cls(
            number,
            connections,
            target,
            *(told["per_s"], told["p50_ms"], told["p99_ms"]),
            told.get("images_per_pass"),
        )


@dataclass(frozen=True)
class Result:
    """What one mode found."""

    mode: str
    about: dict[str, object]  # settings that it chose itself
    samples: Samples
    figures: list[Figure] = field(default_factory=list)  # where there are latencies of rounds


def ratios(row: Mapping[str, Figure]) -> dict[str, float]:
    """One round at one number of connections.

    The bound, 1 / (1/A + 1/M), answers as fast as A, then generates as fast as M, one after the
    other, and does nothing else. The latency ratio is the same for a request that is alone.
    """
    ours, bare, model = row[OURS], row[BARE], row[MODEL]
    found = {
        "ours / bound": ours.per_s * (1 / bare.per_s + 1 / model.per_s),
        "ours / F": ours.per_s / row[FASTAPI].per_s,
        "ours / A": ours.per_s / bare.per_s,
        "seeded / unseeded": row[SEEDED].per_s / ours.per_s,
    }
    if ours.connections == 1:
        found["p50 / (A + M)"] = ours.p50_ms / (bare.p50_ms + model.p50_ms)
    return found


def ratios_of(figures: Sequence[Figure]) -> Samples:
    """``"<ratio> at <connections>"`` and our centiles -> one value a round.

    Ratios are taken from figures measured side by side.
    """
    found: Samples = {}
    for connections, number in dict.fromkeys((f.connections, f.round) for f in figures):
        row = {f.target: f for f in figures if (f.connections, f.round) == (connections, number)}
        values = {**ratios(row), "p50 ms": row[OURS].p50_ms, "p99 ms": row[OURS].p99_ms}
        for name, value in values.items():
            found.setdefault(f"{name} at {connections}", []).append(value)
    return found


def spread(values: Iterable[float | None], digits: int | None = None) -> str:
    """``median (least-greatest)`` of the values that are there; digits None = three significant."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    median, low, high = statistics.median(known), min(known), max(known)
    if digits is None:
        digits = 0 if abs(median) >= 100 else 1 if abs(median) >= 10 else 2
    return f"{median:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def markdown(result: Result) -> str:
    """A table of the samples and, where there are figures, one of these."""
    text = table(
        ["", "median (least-greatest)"],
        [[name, spread(values)] for name, values in result.samples.items()],
    )
    if result.figures:
        text += "\n\nAbsolute figures, of this machine and this run only:\n\n"
        text += _figures(result.figures)
    return text


def _figures(figures: Sequence[Figure]) -> str:
    rows = []
    figures = sorted(figures, key=lambda figure: figure.connections)
    for connections, target in dict.fromkeys((f.connections, f.target) for f in figures):
        some = [f for f in figures if (f.connections, f.target) == (connections, target)]
        rows.append(
            [
                str(connections),
                target,
                spread((f.per_s for f in some), 0),
                spread((f.p50_ms for f in some), 2),
                spread((f.p99_ms for f in some), 2),
                spread((f.images_per_pass for f in some), 1),
            ]
        )
    return table(["connections", "", "a second", "p50 ms", "p99 ms", "images a pass"], rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
