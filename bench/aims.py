"""``python -m bench targets``: what the service is to reach, beside what the results say."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import overload, plot, report
from bench.peers import turns
from bench.peers.table import PEERS
from bench.report import Result, Samples, table
from bench.results import Found, latest


@dataclass(frozen=True)
class Figure:
    """One figure of a target."""

    name: str
    value: float | None  # None = not measured
    must: float | None = None  # None = this figure has only the other
    go_for: float | None = None
    at_most: bool = False  # whether smaller is better

    def reaches(self, limit: float | None) -> bool:
        """Whether the figure is as good as a limit."""
        if limit is None or self.value is None:
            return False
        return self.value <= limit if self.at_most else self.value >= limit

    @property
    def verdict(self) -> str:
        """In words."""
        if self.value is None or (self.must is None and self.go_for is None):
            return "not measured"
        if self.reaches(self.go_for):
            return "reached"
        if self.must is None:
            return "missed"
        return "holds" if self.reaches(self.must) else "**missed**"


@dataclass(frozen=True)
class Target:
    """A row of the table."""

    what: str
    must: str
    go_for: str
    figures: list[Figure]


class Results:
    """Medians of the newest results, by mode; None where there is none."""

    def __init__(self, found: Found) -> None:
        self._found = found

    def samples(self, mode: str, gpu: bool = False) -> Samples:
        found: Samples = self._found.get((mode, gpu), {}).get("samples", {})
        return found

    def get(self, mode: str, name: str, gpu: bool = False) -> float | None:
        values = self.samples(mode, gpu).get(name)
        return median(values) if values else None

    def worst(self, name: str, worst: Callable[[Iterable[float]], float]) -> float | None:
        """A figure of the overload where it is worst."""
        found = (self.get("overload", f"at {each:.0%}: {name}") for each in overload.OFFERED)
        known = [value for value in found if value is not None]
        return worst(known) if known else None

    def over(self, peer: str, figure: str) -> float | None:
        """Ours over a peer's, round by round."""
        ours, theirs = (
            self.samples("peers").get(f"{name}: {figure}", []) for name in (turns.OURS, peer)
        )
        pairs = list(zip(ours, theirs, strict=False))
        return median(a / b for a, b in pairs) if pairs else None

    def over_best(self, figure: str, worst: Callable[[Iterable[float]], float]) -> float | None:
        """Ours over that peer's beside which it is worst, round by round.

        Args:
            figure: As in the samples.
            worst: Of the ratios to all peers: min where more is better, max where less is.
        """
        ratios = [ratio for name in PEERS if (ratio := self.over(name, figure)) is not None]
        return worst(ratios) if ratios else None


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


# What production adds to a request -> how ``bench requests`` calls it.
_PRODUCTION = {
    "behind a proxy": "`X-Forwarded-…`, from a trusted proxy",
    "through haproxy": "through haproxy",
    "traced": "`traceparent`, `tracestate`",
    "with a key": "`Authorization`",
    "of a browser": "headers of a browser, `fetch`",
    "all of it": "all of it: proxy, trace, key, browser",
    "seeded": "`seed`",
    "truncated": "`truncation=0.7`",
    "`metadata=none`": "`metadata=none`",
    "`scale=8`": "`scale=8`",
}


def targets(r: Results) -> list[Target]:
    """Every target with its figures."""

    def cost(name: str) -> float | None:
        """CPU of a kind of request, over that of a plain one."""
        return r.get("requests", f"{name} / plain")

    def peers(name: str, way: str) -> Figure:
        return Figure(name, r.over_best(f"per_s at {way}", min), 1, 1.2)

    refused_wrongly = _sum(
        r.worst("503 without Retry-After", max),
        r.worst("other statuses and broken connections", max),
    )
    return [
        Target(
            "a digit for each request, 64 connections",
            "1.1 of the best peer's rate, 0.9 of its CPU",
            "1.5, 0.65; FastAPI's rate for a constant (F)",
            [
                Figure("of its rate", r.over_best("per_s at 64", min), 1.1, 1.5),
                Figure("of its CPU", r.over_best("cpu_us at 64", max), 0.9, 0.65, True),
                Figure("of F", r.get("closed", "ours / F at 64"), None, 1),
            ],
        ),
        Target(
            "the same as production sends it; as many for the same CPU",
            "0.85 of plain, each",
            "0.95",
            [Figure(what, _inverse(cost(name)), 0.85, 0.95) for what, name in _PRODUCTION.items()],
        ),
        Target(
            "CPU of others, over a plain request's",
            "`/decode` 2, `/v2` binary 2, 304 0.6",
            "1.3, 1.5, 0.3",
            [
                Figure("`/decode`", cost("`/decode`, JSON"), 2, 1.3, True),
                Figure("`/v2`", cost("`/v2` infer, binary"), 2, 1.5, True),
                Figure("304", cost("304"), 0.6, 0.3, True),
            ],
        ),
        Target(
            "CPU of uploads of 28 x 28, over a plain request's",
            "2.5, each",
            "1.8",
            [
                Figure(f"`{path}`", cost(f"`{path}`, PNG"), 2.5, 1.8, True)
                for path in ("/encode", "/reconstruct", "/verify")
            ],
        ),
        Target(
            "rates at 256 connections, with labels in turn, through haproxy; images 64 a request",
            "the best peer's, each",
            "1.2 of it",
            [
                peers("at 256", "256"),
                peers("labels in turn", "labels in turn"),
                peers("through haproxy", "through haproxy"),
                Figure("64 a request", r.over_best("images/s of 64", min), 1, 1.2),
            ],
        ),
        Target(
            "64 images a request, images/s",
            "the best peer's",
            "0.85 of the bare generator (M)",
            [
                Figure("of the best peer's", r.over_best("images/s of 64", min), 1),
                Figure("grid, of M", r.get("many", "PNG grid / M"), None, 0.85),
                Figure("npy, of M", r.get("many", "npy / M"), None, 0.85),
            ],
        ),
        Target(
            "`/dataset`, images/s",
            "0.75 of M",
            "0.9 of M",
            [
                Figure("npz, of M", r.get("dataset", "npz / M"), 0.75, 0.9),
                Figure("zip, of M", r.get("dataset", "zip / M"), 0.75, 0.9),
            ],
        ),
        Target(
            "1.2 times and twice the capacity",
            "goodput 0.85 of it; p50 of the accepted 150 ms; refusals only with `Retry-After`",
            "0.95; p99 150 ms; p99 of `/livez` 10 ms",
            [
                Figure("of the capacity", r.worst("goodput / capacity", min), 0.85, 0.95),
                Figure("ms p50", r.worst("p50 ms of the accepted", max), 150, None, True),
                Figure("ms p99", r.worst("p99 ms of the accepted", max), None, 150, True),
                Figure("ms p99 of /livez", r.worst("p99 ms of /livez", max), None, 10, True),
                Figure("refusals without", refused_wrongly, 0, 0, True),
            ],
        ),
        Target(
            "one connection, p50",
            "1.6 of bare ASGI's p50 and one pass",
            "1.25",
            [Figure("of both", r.get("closed", "p50 / (A + M) at 1"), 1.6, 1.25, True)],
        ),
        Target(
            "from the start to the first digit; memory",
            "0.6 s with the store, 2 s with twenty models; the best peer's memory",
            "0.5 s, 1 s; 60 MiB a process",
            [
                Figure("s", r.get("start", "the store: start to first digit, s"), 0.6, 0.5, True),
                Figure("s, 20", r.get("start", "20 models: start to first digit, s"), 2, 1, True),
                Figure("of the least peer's", r.over_best("pss_mib", max), 1, None, True),
                Figure("MiB a process", r.get("start", "PSS a process, MiB"), None, 60, True),
            ],
        ),
        Target(
            "machine with a GPU, a digit for each request, 256 connections",
            "0.6 of bare ASGI at as many workers",
            "0.8",
            [Figure("of A", r.get("closed", "ours / A at 256", gpu=True), 0.6, 0.8)],
        ),
        Target(
            "machine with a GPU, bulk npy through HTTP",
            "0.25 of the bare generator on the GPU",
            "a million images/s",
            [
                Figure("of M", r.get("many", "npy / M", gpu=True), 0.25, None),
                Figure("images/s", r.get("many", "npy, images/s", gpu=True), None, 1e6),
            ],
        ),
    ]


def _inverse(value: float | None) -> float | None:
    return None if value is None else 1 / value


def _shown(figure: Figure) -> str:
    if figure.value is None:
        return f"{figure.name}: none"
    number = report.spread([figure.value]).partition(" ")[0]
    limit = figure.must if figure.must is not None else figure.go_for
    beside = f" (beside {report.spread([limit]).partition(' ')[0]})" if limit is not None else ""
    return f"{number} {figure.name}{beside}"


def markdown(r: Results) -> str:
    """The table of targets, those that are missed or were not measured included."""
    rows = [
        [
            target.what,
            target.must,
            target.go_for,
            "; ".join(_shown(figure) for figure in target.figures),
            "; ".join(figure.verdict for figure in target.figures),
        ]
        for target in targets(r)
    ]
    return table(["", "must hold", "go for", "measured", "verdict"], rows)


def blocks(found: Found) -> dict[str, str]:
    """Name -> text of each generated part of docs/explanation/benchmarks.md."""
    parts = {"targets": markdown(Results(found))}
    if peers := found.get(("peers", False)):
        result = Result("peers", peers["about"], peers["samples"])
        where = (
            f"{peers['machine']['cores']} cores of {peers['machine']['cpu']}, {peers['date'][:10]}"
        )
        parts["peers"] = f"{where}, {peers['about']['engine']}.\n\n{turns.markdown(result)}"
    return parts


def replaced(document: str, parts: dict[str, str]) -> str:
    """The document with what stands between ``<!-- name -->`` and ``<!-- /name -->`` renewed.

    Raises:
        ValueError: a name has no such place.
    """
    for name, text in parts.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if start not in document or end not in document:
            raise ValueError(f"the document has no place for {name}: {start.strip()} ... {end}")
        before, rest = document.split(start, 1)
        document = f"{before}{start}\n{text}\n\n{end}{rest.split(end, 1)[1]}"
    return document


def write(folder: Path, into: Path | None, picture: Path | None = None) -> None:
    """Print the tables made from the results in ``folder``; put them into a document; plot them."""
    parts = blocks(latest(folder))
    for name, text in parts.items():
        print(f"\n## {name}\n\n{text}")
    if into:
        into.write_text(replaced(into.read_text(), parts))
    if picture:
        plot.draw(latest(folder), picture)
