"""What the service counts, in Prometheus' text format at ``/metrics``."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.engine import Lane


class Metrics:
    """One registry an application, so that two in one process do not share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        lane = ("model", "operation")
        self._passes = Counter(
            "genserve_forward_passes", "Calls of a model", lane, registry=self.registry
        )
        self._images = Counter(
            "genserve_images", "Rows that went through a model", lane, registry=self.registry
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
        self.queued = Gauge(
            "genserve_queued_images", "Rows waiting for a model", registry=self.registry
        )
        self.refused_files = Gauge(
            "genserve_refused_checkpoints",
            "Files in the store that could not be loaded",
            registry=self.registry,
        )

    def batch(self, lane: Lane, rows: int, seconds: float) -> None:
        """Record one forward pass."""
        self._passes.labels(*lane).inc()
        self._images.labels(*lane).inc(rows)
        self._batch.labels(*lane).observe(rows)
        self._seconds.labels(*lane).observe(seconds)

    def request(self, method: str, route: str, status: int) -> None:
        """Record one answer; ``route`` is a template, so strangers cannot grow the label set."""
        self._requests.labels(method, route, str(status)).inc()

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)
