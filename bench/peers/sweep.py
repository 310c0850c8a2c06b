"""Batch and wait of each peer that suit each load, found by trying them.

A batch that never fills waits out its time, so one setting for all loads makes a peer slower than
its users have it.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import NamedTuple

from bench.children import BenchError
from bench.report import table


class Setting(NamedTuple):
    """Of a peer that joins requests."""

    batch: int  # requests at most
    wait_ms: int  # for them

    def __str__(self) -> str:
        return f"{self.batch}, {self.wait_ms} ms"


Rates = Mapping[str, float]  # load -> replies a second
Swept = dict[Setting, Rates]


def sweep(
    name: str,
    batches: Iterable[int],
    waits_ms: Iterable[int],
    rates: Callable[[Setting], Rates],
) -> Swept:
    """The rates of each setting.

    Args:
        name: Of the peer.
        batches, waits_ms: To be tried.
        rates: Starts the peer with a setting and measures.

    Raises:
        BenchError: it answers with none of them; the last one's.
    """
    found: Swept = {}
    failure = BenchError(f"{name}: no batch to try")
    for setting in map(Setting._make, product(batches, waits_ms)):
        print(f"sweep: {name}, batch {setting}", file=sys.stderr, flush=True)
        try:
            found[setting] = rates(setting)
        except BenchError as error:
            failure = error
    if not found:
        raise failure
    return found


def best(swept: Swept) -> dict[str, Setting]:
    """The setting with the highest rate, by load."""
    loads = next(iter(swept.values()))
    return {load: max(swept, key=lambda setting: swept[setting][load]) for load in loads}


def markdown(name: str, swept: Swept) -> str:
    """A row for each setting; the best of each load in bold."""
    chosen = best(swept)
    rows = [
        [
            f"{name}, batch {setting}",
            *(
                f"**{rate:,.0f}**" if chosen[load] == setting else f"{rate:,.0f}"
                for load, rate in rates.items()
            ),
        ]
        for setting, rates in swept.items()
    ]
    return table(["replies/s", *chosen], rows)
