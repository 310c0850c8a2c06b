"""One metric of all processes together: its numbers by labels, in memory that they share."""

import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from app.core.telemetry.shared_numbers import Numbers, SharedNumbers

# Each process's numbers of one metric, by its labels.
Values = Mapping[tuple[str, ...], list[list[float]]]
WORKER = "worker"  # the label of what each process has for itself


class Measure:
    """One metric: its values by labels, which this process writes and all together report.

    Args:
        shared: Where the values are.
        kind: What it is; of a gauge, how the values of processes become one.
        name: Without ``_total``.
        about: What it says.
        labels: Their names.
        buckets: Of a histogram: the largest values of each, but for the last.
    """

    def __init__(
        self,
        shared: SharedNumbers,
        kind: Literal["counter", "sum", "max", "histogram"],
        name: str,
        about: str,
        labels: tuple[str, ...] = (),
        buckets: tuple[float, ...] = (),
    ) -> None:
        self.kind, self.name, self.about, self.labels, self.buckets = (
            *(kind, name, about, labels, buckets),
        )
        self._shared = shared
        self._count = len(buckets) + 2 if buckets else 1  # with the last bucket, and the sum
        self._numbers: dict[tuple[str, ...], Numbers] = {}
        self._expected: set[tuple[str, ...]] = set() if labels else {()}

    def reset(self) -> None:
        """This process writes to another part from now on."""
        self._numbers.clear()

    def expect(self, *labels: str) -> None:
        """Report zeros under these labels until something is counted. Of a series that begins with
        its first event, a rate misses that event."""
        self._expected.add(labels)

    def add(self, amount: float, *labels: str) -> None:
        """Count."""
        self._of(labels)[0] += amount

    def set(self, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._of(labels)[0] = value

    def observe(self, value: float, *labels: str, times: int = 1) -> None:
        """Add a value to a histogram, once or several times."""
        numbers = self._of(labels)
        numbers[bisect_left(self.buckets, value)] += times
        numbers[self._count - 1] += value * times

    def _of(self, labels: tuple[str, ...]) -> Numbers:
        if (numbers := self._numbers.get(labels)) is None:
            numbers = self._shared.numbers(json.dumps([self.name, *labels]), self._count)
            self._numbers[labels] = numbers
        return numbers

    def family(self, values: Values) -> Metric:
        """As prometheus_client has it, of each process's numbers by labels."""
        zeros = {labels: [[0.0] * self._count] for labels in sorted(self._expected)}
        values = {**zeros, **values}
        if self.kind == "histogram":
            histogram = HistogramMetricFamily(self.name, self.about, labels=self.labels)
            for labels, parts in values.items():
                *counts, total = map(sum, zip(*parts, strict=True))
                bounds = [*map(floatToGoString, self.buckets), "+Inf"]
                below = [sum(counts[: i + 1]) for i in range(len(counts))]
                buckets = list(zip(bounds, below, strict=True))
                histogram.add_metric(labels, buckets, total)
            return histogram
        family = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        merge: Callable[[Iterable[float]], float] = max if self.kind == "max" else sum
        simple = family(self.name, self.about, labels=self.labels)
        for labels, parts in values.items():
            value = merge(part[0] for part in parts)
            if value or WORKER not in self.labels:  # 0 = that worker has ended
                simple.add_metric(labels, value)
        return simple
