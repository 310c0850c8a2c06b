"""What the service counts, in Prometheus' text format at ``/metrics``."""

from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from app.engines.rows import OperationKey


class Metrics:
    """One registry an application, so that two in one process do not share counts.

    Args:
        shared: The folder in which prometheus_client keeps the values of all processes (its
            environment variable PROMETHEUS_MULTIPROC_DIR); their sums are reported. None = one
            process, whose values are in memory.
    """

    def __init__(self, shared: Path | None = None) -> None:
        self._shared = shared
        self.registry = CollectorRegistry()
        by_operation = ("model", "operation")
        self._passes = Counter(
            "genserve_forward_passes", "Calls of a model", by_operation, registry=self.registry
        )
        self._images = Counter(
            "genserve_images",
            "Rows that a model ran for a request",
            by_operation,
            registry=self.registry,
        )
        self._batch = Histogram(
            "genserve_batch_images",
            "Rows of one forward pass",
            by_operation,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "genserve_forward_seconds",
            "Seconds of one forward pass",
            by_operation,
            buckets=(0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 2),
            registry=self.registry,
        )
        self._requests = Counter(
            "genserve_requests",
            "Requests answered, by route template",
            ("method", "route", "status"),
            registry=self.registry,
        )
        # Counters with their labels: labels() costs more than counting.
        self._responses: dict[tuple[str, str, int], Counter] = {}
        self._of_key: dict[OperationKey, tuple[Counter, Counter, Histogram, Histogram]] = {}
        self._refusals: dict[tuple[OperationKey, str], Counter] = {}
        self._dropped = Counter(
            "genserve_dropped_images",
            "Accepted rows that no model ever saw: their client left, their deadline expired, "
            "another row of the request failed, or the service stopped",
            (*by_operation, "reason"),
            registry=self.registry,
        )
        self._refused = Counter(
            "genserve_refused_requests",
            "Requests refused on arrival: no room in the queue, too long a predicted wait for the "
            "service's limit or the request's deadline, or more waiting than the client's share",
            (*by_operation, "reason"),
            registry=self.registry,
        )
        self._failed = Counter(
            "genserve_failed_requests",
            "Requests that a model failed: it raised, or gave values that are not finite",
            (*by_operation, "reason"),
            registry=self.registry,
        )
        self._queued = Gauge(
            "genserve_queued_images",
            "Rows waiting for a model",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._wait = Gauge(
            "genserve_predicted_wait_seconds",
            "What a request for one image would wait now, in the process where that is longest",
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self._rate = Gauge(
            "genserve_images_per_second",
            "Measured rate of full batches, which the predicted wait is made from",
            by_operation,
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._in_flight = Gauge(
            "genserve_requests_in_flight",
            "Requests accepted and not yet answered",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._processes = Gauge(
            "genserve_processes",
            "Processes that serve",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._dropped_lines = Counter(
            "genserve_dropped_log_lines",
            "Lines that standard error or standard output did not take in time",
            registry=self.registry,
        )
        self._dropped_lines_counted = 0
        self.refused_files = Gauge(
            "genserve_refused_checkpoints",
            "Files in the store that could not be loaded",
            registry=self.registry,
            multiprocess_mode="livemax",
        )

    def batch(self, key: OperationKey, rows: int, seconds: float) -> None:
        """Record one forward pass."""
        if key not in self._of_key:
            self._of_key[key] = (
                self._passes.labels(*key),
                self._images.labels(*key),
                self._batch.labels(*key),
                self._seconds.labels(*key),
            )
        passes, images, batch, took = self._of_key[key]
        passes.inc()
        images.inc(rows)
        batch.observe(rows)
        took.observe(seconds)

    def dropped(self, key: OperationKey, rows: int, reason: str) -> None:
        """Record rows that were accepted and never run."""
        self._dropped.labels(*key, reason).inc(rows)

    def refused(self, key: OperationKey, reason: str, times: int = 1) -> None:
        """Record requests refused on arrival."""
        if (counter := self._refusals.get((key, reason))) is None:
            counter = self._refusals[key, reason] = self._refused.labels(*key, reason)
        counter.inc(times)

    def failed(self, key: OperationKey, reason: str) -> None:
        """Record a request that the model failed."""
        self._failed.labels(*key, reason).inc()

    def load(
        self, queued: int, wait_s: float, rates: Mapping[OperationKey, float], in_flight: int
    ) -> None:
        """Record the present load."""
        self._processes.set(1)
        self._queued.set(queued)
        self._wait.set(wait_s)
        self._in_flight.set(in_flight)
        for key, rate in rates.items():
            self._rate.labels(*key).set(rate)

    def dropped_lines(self, total: int) -> None:
        """Record how many lines of the log this process has dropped since it began."""
        self._dropped_lines.inc(total - self._dropped_lines_counted)
        self._dropped_lines_counted = total

    def request(self, method: str, route: str, status: int, times: int = 1) -> None:
        """Record responses; ``route`` is a template, so clients cannot add labels at will."""
        if (counter := self._responses.get((method, route, status))) is None:
            counter = self._requests.labels(method, route, str(status))
            self._responses[method, route, status] = counter
        counter.inc(times)

    def text(self) -> bytes:
        """The text for /metrics, of all processes together."""
        return generate_latest(self._all())

    def sums(self) -> dict[str, float]:
        """Each value by its name, summed over its labels and over all processes."""
        sums: dict[str, float] = {}
        for metric in self._all().collect():
            for sample in metric.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    def rates(self) -> dict[OperationKey, float]:
        """``genserve_images_per_second`` of each operation of a model."""
        return {
            (sample.labels["model"], sample.labels["operation"]): sample.value  # type: ignore[misc]
            for metric in self._all().collect()
            for sample in metric.samples
            if sample.name == "genserve_images_per_second"
        }

    def _all(self) -> CollectorRegistry:
        if not self._shared:
            return self.registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._shared))
        return registry
