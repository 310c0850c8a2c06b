"""``python -m bench [MODE ...]``: measure, then tables and files of results.

``python -m bench failover``, ``ray``, ``reload`` and ``simulate`` are commands of their own
(``bench.cluster``).
"""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from bench import (
    aims,
    closed,
    dataset,
    machine,
    many,
    open_loop,
    overload,
    page,
    report,
    requests,
    rig,
    startup,
)
from bench import wrk as wrk_
from bench.children import BenchError
from bench.cluster import failover, ray_serve, reload, simulate
from bench.report import Result
from bench.results import RESULTS, save

MODES: dict[str, Callable[[argparse.Namespace], Result]] = {
    "closed": closed.run,
    "many": many.run,
    "open": open_loop.run,
    "overload": overload.run,
    "dataset": dataset.run,
    "start": startup.run,
    "page": page.run,
    "requests": requests.run,
}
LONG = ("requests", "pictures")  # run when they are named

COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "failover": failover.main,
    "ray": ray_serve.main,
    "reload": reload.main,
    "simulate": simulate.main,
}


def whole(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: a whole number within bounds."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text[:9]) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {low} to {high}")
        return int(text)

    return parse


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; unknown modes are an error that lists them."""
    parser = argparse.ArgumentParser(
        "python -m bench", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    names = [*MODES, "targets", "pictures"]
    help_modes = f"of {', '.join(names)}; none = all but {' and '.join(LONG)}"
    add("modes", nargs="*", metavar="MODE", help=help_modes)
    connections = [1, 16, 64, 256]
    add("--connections", type=whole(1, 1024), nargs="+", default=connections, help="of closed")
    add("--rounds", type=whole(1, 100), default=5, help="measurements of each thing")
    add("--seconds", type=whole(1, 120), default=5, help="length of each measurement")
    add("--label", type=whole(0, 9999), default=7, help="class index asked for")
    add("--models-dir", type=Path, help="as of python -m app")
    add("--workers", type=whole(1, 1024), help="as of python -m app, and of floors and generators")
    add("--into", type=Path, help="targets: document whose tables of figures are rewritten")
    add("--plot", type=Path, help="targets: where to draw the newest results, as PNG or SVG")
    add("--digits", type=whole(1, 5000), default=100, help="pictures: held-out digits of each row")
    args = parser.parse_args(arguments)
    if unknown := [mode for mode in args.modes if mode not in names]:
        parser.error(f"unknown mode {unknown[0]!r}; choose from {', '.join(names)}")
    args.floor_workers = args.workers or rig.cores()
    return args


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        COMMANDS[sys.argv[1]](sys.argv[2:])
        return
    args = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwind, and so stop the servers
    about = {"wrk": wrk_.version(), **machine.describe()}
    failed = False
    for mode in args.modes or [mode for mode in MODES if mode not in LONG]:
        if mode in ("targets", "pictures"):
            continue
        try:
            result = MODES[mode](args)
        except BenchError as error:  # the others can still tell something
            print(f"\n## {mode}\n\nbench: {error}", flush=True)
            failed = failed or not isinstance(error, dataset.AbsentError)
            continue
        save(result, args, about)
        markdown = requests.markdown if mode == "requests" else report.markdown
        print(
            f"\n## {mode}\n\nmedians (least-greatest) of {args.rounds} rounds of {args.seconds} s; "
            f"{about['cores']} cores of {about['cpu']}, load before: {about['load_before']}; "
            f"{result.about}\n\n{markdown(result)}",
            flush=True,
        )
    if "pictures" in args.modes:
        from bench import pictures  # imports torch, which takes seconds

        pictures.write(args)
    if not args.modes or "targets" in args.modes:
        aims.write(RESULTS, args.into, args.plot)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
