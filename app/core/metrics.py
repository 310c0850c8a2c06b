"""What the service counts, in Prometheus' text format at ``/metrics``."""

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app.core.shared_numbers import Numbers, SharedNumbers
from app.engines.rows import OperationKey

_TEXT_FORMAT = re.compile(
    r"(?:application/openmetrics-text|text/plain)"
    r"(?:\s*;\s*(?:version=(?:0\.0\.[14]|1\.0\.0)|(?:charset|escaping|q)=[A-Za-z0-9.-]+))*"
)
_OPERATION = ("model", "operation")


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

    def reset(self) -> None:
        """This process writes to another part from now on."""
        self._numbers.clear()
        if not self.labels:
            self._of(())  # so that it is reported before it is counted

    def add(self, amount: float, *labels: str) -> None:
        """Count."""
        self._of(labels)[0] += amount

    def set(self, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._of(labels)[0] = value

    def observe(self, value: float, *labels: str) -> None:
        """Add a value to a histogram."""
        numbers = self._of(labels)
        numbers[bisect_left(self.buckets, value)] += 1
        numbers[self._count - 1] += value

    def _of(self, labels: tuple[str, ...]) -> Numbers:
        if (numbers := self._numbers.get(labels)) is None:
            numbers = self._shared.numbers(json.dumps([self.name, *labels]), self._count)
            self._numbers[labels] = numbers
        return numbers

    def family(self, values: Mapping[tuple[str, ...], list[list[float]]]) -> Metric:
        """As prometheus_client has it, of each process's numbers by labels."""
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
            simple.add_metric(labels, merge(part[0] for part in parts))
        return simple


class Metrics(Collector):
    """One registry an application, so that two in one process do not share counts.

    Args:
        processes: How many may serve at a time. Create this before they are forked; each calls
            ``use``, and their sums are reported.
    """

    def __init__(self, processes: int = 1) -> None:
        self._shared = SharedNumbers(processes)
        self._measures: dict[str, Measure] = {}
        self._passes = self._counter("genserve_forward_passes", "Calls of a model", _OPERATION)
        self._images = self._counter(
            "genserve_images", "Rows that a model ran for a request", _OPERATION
        )
        self._batch = self._histogram(
            "genserve_batch_images",
            "Rows of one forward pass",
            (1, 2, 4, 8, 16, 32, 64, 128, 256),
        )
        self._seconds = self._histogram(
            "genserve_forward_seconds",
            "Seconds of one forward pass",
            (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 2),
        )
        self._requests = self._counter(
            "genserve_requests",
            "Requests answered, by route template",
            ("method", "route", "status"),
        )
        self._dropped = self._counter(
            "genserve_dropped_images",
            "Accepted rows that no model ever saw: their client left, their deadline expired, "
            "another row of the request failed, or the service stopped",
            (*_OPERATION, "reason"),
        )
        self._refused = self._counter(
            "genserve_refused_requests",
            "Requests refused on arrival: no room in the queue, too long a predicted wait for the "
            "service's limit or the request's deadline, or more waiting than the client's share",
            (*_OPERATION, "reason"),
        )
        self._failed = self._counter(
            "genserve_failed_requests",
            "Requests that a model failed: it raised, or gave values that are not finite",
            (*_OPERATION, "reason"),
        )
        self._queued = self._gauge("genserve_queued_images", "Rows waiting for a model")
        self._wait = self._gauge(
            "genserve_predicted_wait_seconds",
            "What a request for one image would wait now, in the process where that is longest",
            merge="max",
        )
        self._rate = self._gauge(
            "genserve_images_per_second",
            "Measured rate of full batches, which the predicted wait is made from",
            _OPERATION,
        )
        self._in_flight = self._gauge(
            "genserve_requests_in_flight", "Requests accepted and not yet answered"
        )
        self._processes = self._gauge("genserve_processes", "Processes that serve")
        self._dropped_lines = self._counter(
            "genserve_dropped_log_lines",
            "Lines that standard error or standard output did not take in time",
        )
        self._dropped_lines_counted = 0
        self._refused_files = self._gauge(
            "genserve_refused_checkpoints",
            "Files in the store that could not be loaded",
            merge="max",
        )
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def _counter(self, name: str, about: str, labels: tuple[str, ...] = ()) -> Measure:
        return self._add(Measure(self._shared, "counter", name, about, labels))

    def _gauge(
        self,
        name: str,
        about: str,
        labels: tuple[str, ...] = (),
        merge: Literal["sum", "max"] = "sum",
    ) -> Measure:
        return self._add(Measure(self._shared, merge, name, about, labels))

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...]) -> Measure:
        return self._add(Measure(self._shared, "histogram", name, about, _OPERATION, buckets))

    def _add(self, measure: Measure) -> Measure:
        self._measures[measure.name] = measure
        measure.reset()
        return measure

    def use(self, part: int) -> None:
        """Count in a part of one's own, below ``processes``; after the fork."""
        self._shared.use(part)
        for measure in self._measures.values():
            measure.reset()

    def ended(self, part: int) -> None:
        """Forget the present load of a process that has ended; what it counted stays."""
        for owner, key, numbers in self._shared.all():
            if owner == part and self._measures[json.loads(key)[0]].kind in ("sum", "max"):
                numbers[0] = 0.0

    def batch(self, key: OperationKey, rows: int, seconds: float) -> None:
        """Record one forward pass."""
        self._passes.add(1, *key)
        self._images.add(rows, *key)
        self._batch.observe(rows, *key)
        self._seconds.observe(seconds, *key)

    def dropped(self, key: OperationKey, rows: int, reason: str) -> None:
        """Record rows that were accepted and never run."""
        self._dropped.add(rows, *key, reason)

    def refused(self, key: OperationKey, reason: str, times: int = 1) -> None:
        """Record requests refused on arrival."""
        self._refused.add(times, *key, reason)

    def failed(self, key: OperationKey, reason: str) -> None:
        """Record a request that the model failed."""
        self._failed.add(1, *key, reason)

    def refused_files(self, count: int) -> None:
        """Record how many files of the store could not be loaded."""
        self._refused_files.set(count)

    def load(
        self, queued: int, wait_s: float, rates: Mapping[OperationKey, float], in_flight: int
    ) -> None:
        """Record the present load."""
        self._processes.set(1)
        self._queued.set(queued)
        self._wait.set(wait_s)
        self._in_flight.set(in_flight)
        for key, rate in rates.items():
            self._rate.set(rate, *key)

    def dropped_lines(self, total: int) -> None:
        """Record how many lines of the log this process has dropped since it began."""
        self._dropped_lines.add(total - self._dropped_lines_counted)
        self._dropped_lines_counted = total

    def request(self, method: str, route: str, status: int, times: int = 1) -> None:
        """Record responses; ``route`` is a template, so clients cannot add labels at will."""
        self._requests.add(times, method, route, str(status))

    def collect(self) -> Iterator[Metric]:
        """Every metric, of all processes together; called by prometheus_client."""
        values: dict[str, dict[tuple[str, ...], list[list[float]]]] = {}
        for _, key, numbers in self._shared.all():
            name, *labels = json.loads(key)
            values.setdefault(name, {}).setdefault(tuple(labels), []).append(list(numbers))
        for name, measure in self._measures.items():
            yield measure.family(values.get(name, {}))

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The text for /metrics, of all processes together, and its media type.

        Args:
            accept: The Accept header: OpenMetrics, or a version of Prometheus' own format; 0.0.4
                where it names none.
        """
        known = [part.strip() for part in accept.split(",")]
        # prometheus_client repeats any version in its answer, and fails on one that is none.
        encode, media = choose_encoder(",".join(filter(_TEXT_FORMAT.fullmatch, known)))
        return encode(self.registry), media

    def sums(self) -> dict[str, float]:
        """Each value by its name, summed over its labels and over all processes."""
        sums: dict[str, float] = {}
        for metric in self.collect():
            for sample in metric.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    def rates(self) -> dict[OperationKey, float]:
        """``genserve_images_per_second`` of each operation of a model."""
        return {
            (sample.labels["model"], sample.labels["operation"]): sample.value  # type: ignore[misc]
            for metric in self.collect()
            for sample in metric.samples
            if sample.name == "genserve_images_per_second"
        }
