"""The order in which things are measured, so that a drift of the machine's speed hits all alike."""

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def rounds(kinds: Sequence[T], args: Namespace) -> Iterator[tuple[int, T, int]]:
    """Round, what to measure, and for how many seconds.

    Round 0 warms up for a second and is to be dropped. Every second round runs backwards.
    """
    for number in range(args.rounds + 1):
        for kind in kinds[:: 1 if number % 2 else -1]:
            print(f"round {number}: {getattr(kind, 'name', kind)}", file=sys.stderr, flush=True)
            yield number, kind, args.seconds if number else 1
