"""The newest results as a picture: rate and p99 over connections, of peers and floors."""

from pathlib import Path
from statistics import median

from bench.results import Found

Lines = dict[str, dict[int, tuple[float, float]]]  # server -> connections -> a second, p99 ms


def of_peers(found: Found) -> Lines:
    """Medians of the peers' rounds."""
    lines: Lines = {}
    samples = found.get(("peers", False), {}).get("samples", {})
    for name, values in samples.items():
        server, _, figure = name.partition(": ")
        load = figure.removeprefix("per_s at ")
        if load.isdecimal():  # not of the other ways
            connections = int(load)
            p99 = median(samples[f"{server}: p99_ms at {connections}"])
            lines.setdefault(server, {})[connections] = (median(values), p99)
    return lines


def of_closed(found: Found) -> Lines:
    """Medians of the closed loop's figures."""
    lines: Lines = {}
    figures = found.get(("closed", False), {}).get("figures", [])
    for target, connections in dict.fromkeys((f["target"], f["connections"]) for f in figures):
        some = [f for f in figures if (f["target"], f["connections"]) == (target, connections)]
        lines.setdefault(target, {})[connections] = (
            median(f["per_s"] for f in some),
            median(f["p99_ms"] for f in some),
        )
    return lines


def draw(found: Found, path: Path) -> None:
    """Four panels, logarithmic."""
    from matplotlib.figure import Figure  # an extra of its own, and slow to import

    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 2, squeeze=False)
    for row, lines in enumerate((of_peers(found), of_closed(found))):
        for column, what in enumerate(("answers a second", "p99, ms")):
            ax = axes[row][column]
            for server, points in lines.items():
                places = sorted(points)
                width = 3 if server == "ours" else 1.2
                values = [points[place][column] for place in places]
                ax.plot(places, values, marker="o", linewidth=width, label=server)
            ax.set(xscale="log", yscale="log", xlabel="connections", ylabel=what)
            if lines:
                ax.legend(fontsize=8)
    figure.savefig(path, dpi=100)
