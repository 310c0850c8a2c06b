"""What the service counts, in Prometheus' text format at ``/metrics``."""

from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from app.engines.rows import OperationKey


class Metrics:
    """One registry an application, so that two in one process do not share counts.

    Args:
        shared: The folder in which prometheus_client keeps the values of all processes of the
            service, whose sums are told; it knows it by PROMETHEUS_MULTIPROC_DIR. None = one
            process, whose values are in its memory.
    """

    def __init__(self, shared: Path | None = None) -> None:
        self._shared = shared
        self.registry = CollectorRegistry()
        lane = ("model", "operation")
        self._passes = Counter(
            "genserve_forward_passes", "Calls of a model", lane, registry=self.registry
        )
        self._images = Counter(
            "genserve_images", "Rows that a model ran for a request", lane, registry=self.registry
        )
        self._batch = Histogram(
            "genserve_batch_images",
            "Rows of one forward pass",
            lane,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "genserve_forward_seconds",
            "Seconds of one forward pass",
            lane,
            buckets=(0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 2),
            registry=self.registry,
        )
        self._requests = Counter(
            "genserve_requests",
            "Requests answered, by route template",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._answers: dict[tuple[str, str, int], Counter] = {}
        self._of_lane: dict[OperationKey, tuple[Counter, Counter, Histogram, Histogram]] = {}
        self._refusals: dict[tuple[OperationKey, str], Counter] = {}
        self._dropped = Counter(
            "genserve_dropped_images",
            "Accepted rows that no model ever saw: their client left, their deadline expired, "
            "another row of the request failed, or the service stopped",
            (*lane, "reason"),
            registry=self.registry,
        )
        self._refused = Counter(
            "genserve_refused_requests",
            "Requests refused on arrival: no room in the queue, too long a predicted wait for the "
            "service's limit or the request's deadline, or more waiting than the client's share",
            (*lane, "reason"),
            registry=self.registry,
        )
        self._failed = Counter(
            "genserve_failed_requests",
            "Requests that a model failed: it raised, or gave values that are not finite",
            (*lane, "reason"),
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
            lane,
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
        self.refused_files = Gauge(
            "genserve_refused_checkpoints",
            "Files in the store that could not be loaded",
            registry=self.registry,
            multiprocess_mode="livemax",
        )

    def batch(self, lane: OperationKey, rows: int, seconds: float) -> None:
        """Record one forward pass."""
        if lane not in self._of_lane:  # labels() costs more than counting
            self._of_lane[lane] = (
                self._passes.labels(*lane),
                self._images.labels(*lane),
                self._batch.labels(*lane),
                self._seconds.labels(*lane),
            )
        passes, images, batch, took = self._of_lane[lane]
        passes.inc()
        images.inc(rows)
        batch.observe(rows)
        took.observe(seconds)

    def dropped(self, lane: OperationKey, rows: int, reason: str) -> None:
        """Record rows that were accepted and never run."""
        self._dropped.labels(*lane, reason).inc(rows)

    def refused(self, lane: OperationKey, reason: str, times: int = 1) -> None:
        """Record requests refused on arrival."""
        key = (lane, reason)
        if key not in self._refusals:  # labels() costs more than counting
            self._refusals[key] = self._refused.labels(*lane, reason)
        self._refusals[key].inc(times)

    def failed(self, lane: OperationKey, reason: str) -> None:
        """Record a request that the model failed."""
        self._failed.labels(*lane, reason).inc()

    def load(
        self, queued: int, wait_s: float, rates: Mapping[OperationKey, float], in_flight: int
    ) -> None:
        """Record how things stand now."""
        self._processes.set(1)
        self._queued.set(queued)
        self._wait.set(wait_s)
        self._in_flight.set(in_flight)
        for lane, rate in rates.items():
            self._rate.labels(*lane).set(rate)

    def request(self, method: str, route: str, status: int, times: int = 1) -> None:
        """Record answers; ``route`` is a template, so strangers cannot grow the label set."""
        key = (method, route, status)
        if key not in self._answers:
            self._answers[key] = self._requests.labels(method, route, str(status))
        self._answers[key].inc(times)

    def text(self) -> bytes:
        """The exposition, of all processes together."""
        return generate_latest(self._all())

    def sums(self) -> dict[str, float]:
        """Each value by its name, summed over its labels and over all processes."""
        found: dict[str, float] = {}
        for metric in self._all().collect():
            for sample in metric.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    def rates(self) -> dict[OperationKey, float]:
        """``genserve_images_per_second`` of each lane."""
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
