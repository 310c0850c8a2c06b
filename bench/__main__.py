"""``python -m bench``: every target in rotation, then a table and a file of results."""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench import machine, report, wrk
from bench.children import BenchError
from bench.targets import Targets

RESULTS = Path(__file__).with_name("results")


def whole(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: a whole number within bounds."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text[:9]) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {low} to {high}")
        return int(text)

    return parse


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m bench", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--connections", type=whole(1, 1024), nargs="+", default=[1, 64], help="open at a time")
    add("--rounds", type=whole(1, 100), default=5, help="measurements of each target")
    add("--seconds", type=whole(1, 120), default=5, help="length of each measurement")
    add("--label", type=whole(0, 9999), default=7, help="class index asked for")
    add("--models-dir", type=Path, help="as of python -m app")
    return parser.parse_args()


def run(args: argparse.Namespace) -> tuple[str, list[report.Figure]]:
    """The name of the model that answered, and one figure a round, connections and target."""
    figures: list[report.Figure] = []
    with ExitStack() as stack:
        targets = Targets(stack, args.label, args.models_dir)
        # Round 0 warms up and is dropped. Every second round runs backwards, so that a steady
        # drift of the machine's speed falls on all alike.
        for number in range(args.rounds + 1):
            for connections in dict.fromkeys(args.connections):
                for target in report.TARGETS[:: 1 if number % 2 else -1]:
                    print(f"round {number}: {target}, {connections}", file=sys.stderr, flush=True)
                    seconds = args.seconds if number else 1
                    figures.append(targets.measure(number, connections, target, seconds))
    return targets.model, [figure for figure in figures if figure.round]


def main() -> None:
    args = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwind, and so stop the servers
    about = {"wrk": wrk.version(), **machine.describe()}
    model, figures = run(args)
    when = datetime.now(UTC)
    result = {
        "date": when.isoformat(timespec="seconds"),
        "settings": {k: v for k, v in vars(args).items() if k != "models_dir"} | {"model": model},
        "about": about,
        "ratios": report.all_ratios(figures),
        "figures": [asdict(figure) for figure in figures],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{when:%Y%m%dT%H%M%SZ}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{model}; medians (least-greatest) of {args.rounds} rounds of {args.seconds} s; "
        f"one process each; {about['cores']} cores of {about['cpu']}, "
        f"load before: {about['load_before']}\n\n{report.markdown(figures)}"
    )


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
