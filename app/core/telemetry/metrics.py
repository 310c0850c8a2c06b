"""What the service counts, in Prometheus' text format at ``/metrics``.

Long, since it is the one list of all series.
"""

import json
import platform
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from app import __version__
from app.core.telemetry.measure import WORKER, Measure
from app.core.telemetry.shared_numbers import SharedNumbers
from app.engines.rows import OperationKey

_TEXT_FORMAT = re.compile(
    r"(?:application/openmetrics-text|text/plain)"
    r"(?:\s*;\s*(?:version=(?:0\.0\.[14]|1\.0\.0)|(?:charset|escaping|q)=[A-Za-z0-9.-]+))*"
)
# Why something was not done; these are reported before they are counted.
REFUSED = ("queue", "wait", "deadline", "share")
DROPPED = ("left", "expired", "stopped", "failed")
FAILED = ("raised", "not_finite")
FIGURES = (
    *("frechet_test_ratio", "kid_test", "precision", "recall", "memorised"),
    *("conditional_accuracy", "reconstruction_mse", "nll_binarised_nats"),
)

_OPERATION = ("model", "operation")
_REQUEST = ("method", "route", "status")
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
# From a small network's pass to what counts as hung (GENSERVE_HANG_SECONDS).
_FORWARD_S = (*(0.0005 * 2**i for i in range(9)), 0.5, 2, 5)
# Up to the longest wait that is allowed (GENSERVE_MAX_QUEUE_MS), and beyond it.
_QUEUE_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
# Up to the time limit of a request (GENSERVE_MAX_TIMEOUT_MS).
_REQUEST_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics(Collector):
    """One registry an application, so that two in one process do not share counts.

    Args:
        processes: How many may serve at a time. Create this before they are forked; each calls
            ``use``, and their sums are reported.
    """

    def __init__(self, processes: int = 1) -> None:
        self._shared = SharedNumbers(processes)
        self._measures: dict[str, Measure] = {}
        self._part = "0"
        self._passes = self._counter("genserve_forward_passes", "Calls of a model", _OPERATION)
        self._images = self._counter(
            "genserve_images", "Rows that a model ran for a request", _OPERATION
        )
        self._batch = self._histogram(
            "genserve_batch_images", "Rows of one forward pass", _OPERATION, _ROWS
        )
        self._seconds = self._histogram(
            "genserve_forward_seconds", "Seconds of one forward pass", _OPERATION, _FORWARD_S
        )
        self._queue = self._histogram(
            "genserve_queue_seconds",
            "Seconds from a request's arrival until its first row went to the model, of requests "
            "that the model answered",
            _OPERATION,
            _QUEUE_S,
        )
        self._requests = self._counter(
            "genserve_requests", "Requests answered, by route template", _REQUEST
        )
        self._request_seconds = self._histogram(
            "genserve_request_seconds",
            "Seconds from a request's head to the end of its response",
            _REQUEST,
            _REQUEST_S,
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
            "Until all that is queued should be done, in the process where that is longest",
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
        self._refused_connections = self._counter(
            "genserve_refused_connections",
            "Connections that may ask for health alone: all are in use (full), or most of them are "
            "of one client (share)",
            ("reason",),
        )
        self._body_bytes = self._gauge(
            "genserve_body_bytes", "Bytes of request bodies that are held"
        )
        self._codec_jobs = self._counter(
            "genserve_codec_jobs",
            "Pictures decoded, compared or encoded, and large JSON bodies parsed; outcome: done, "
            "refused (the input), deadline or left (the work was ended), failed",
            ("kind", "outcome"),
        )
        self._codec_seconds = self._histogram(
            "genserve_codec_seconds",
            "Seconds of decoding, comparing or encoding one picture, or of parsing a body",
            ("kind",),
            (0.001, 0.004, 0.016, 0.064, 0.25, 1, 4, 16),
        )
        self._codec_refused = self._counter(
            "genserve_codec_refused_jobs",
            "Pictures and bodies without room: in the queue, or in the client's share of it",
            ("kind", "reason"),
        )
        self._codec_processes = self._gauge(
            "genserve_codec_processes", "Processes that decode and encode pictures"
        )
        self._refused_files = self._gauge(
            "genserve_refused_checkpoints",
            "Files in the store that could not be loaded",
            merge="max",
        )
        self._figures = self._gauge(
            "genserve_model_figure",
            "Figures of quality from a model's card",
            ("model", "figure"),
            merge="max",
        )
        self._add_process()
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def _add_process(self) -> None:
        """What prometheus_client reports of one process, for each worker."""
        self._cpu = self._counter(
            "process_cpu_seconds", "CPU time of a worker, and of those before it", (WORKER,)
        )
        self._cpu_counted = 0.0
        self._started = time.time()
        self._process = {
            name: self._gauge(f"process_{name}", about, (WORKER,))
            for name, about in {
                "resident_memory_bytes": "Memory of a worker; pages that workers share count in "
                "each of them",
                "virtual_memory_bytes": "Address space of a worker",
                "open_fds": "Open files and connections of a worker",
                "max_fds": "How many it may open",
                "start_time_seconds": "When it started, in seconds since 1970",
            }.items()
        }

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

    def _histogram(
        self, name: str, about: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Measure:
        return self._add(Measure(self._shared, "histogram", name, about, labels, buckets))

    def _add(self, measure: Measure) -> Measure:
        self._measures[measure.name] = measure
        return measure

    def use(self, part: int) -> None:
        """Count in a part of one's own, below ``processes``; after the fork."""
        self._shared.use(part)
        self._part = str(part)
        self._started, self._cpu_counted = time.time(), 0.0
        for measure in self._measures.values():
            measure.reset()

    def ended(self, part: int) -> None:
        """Forget the present load of a process that has ended; what it counted stays."""
        for owner, key, numbers in self._shared.all():
            if owner == part and self._measures[json.loads(key)[0]].kind in ("sum", "max"):
                numbers[0] = 0.0

    def expect_operations(self, keys: Iterable[OperationKey]) -> None:
        """Report these operations before their first request."""
        for key in keys:
            for measure in (self._passes, self._images, self._batch, self._seconds, self._queue):
                measure.expect(*key)
            for measure, reasons in (
                (self._dropped, DROPPED),
                (self._refused, REFUSED),
                (self._failed, FAILED),
            ):
                for reason in reasons:
                    measure.expect(*key, reason)

    def expect_route(self, method: str, route: str, timed: bool) -> None:
        """Report a route before its first request; ``timed``: with its histogram."""
        for status in ("200", "500", "503"):
            self._requests.expect(method, route, status)
        if timed:
            self._request_seconds.expect(method, route, "200")

    def card(self, model: str, figures: Mapping[str, Any]) -> None:
        """Report some of the figures of a model's card."""
        for name in FIGURES:
            value = figures.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                self._figures.set(value, model, name)

    def batch(self, key: OperationKey, rows: int, seconds: float) -> None:
        """Record one forward pass."""
        self._passes.add(1, *key)
        self._images.add(rows, *key)
        self._batch.observe(rows, *key)
        self._seconds.observe(seconds, *key)

    def queued(self, key: OperationKey, seconds: float) -> None:
        """Record how long a request that was answered had waited for its model."""
        self._queue.observe(seconds, *key)

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

    def codec_job(self, kind: str, outcome: str, seconds: float) -> None:
        """Record a picture that was decoded, compared or encoded, or was to be."""
        self._codec_jobs.add(1, kind, outcome)
        self._codec_seconds.observe(seconds, kind)

    def codec_refused(self, kind: str, reason: str) -> None:
        """Record a picture for which there was no room."""
        self._codec_refused.add(1, kind, reason)

    def codec_processes(self, alive: int) -> None:
        """Record how many processes decode and encode pictures."""
        self._codec_processes.set(alive)

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

    def refused_connection(self, reason: str) -> None:
        """Record a connection that was not admitted."""
        self._refused_connections.add(1, reason)

    def body_bytes(self, held: int) -> None:
        """Record the bytes of bodies that this process holds."""
        self._body_bytes.set(held)

    def dropped_lines(self, total: int) -> None:
        """Record how many lines of the log this process has dropped since it began."""
        self._dropped_lines.add(total - self._dropped_lines_counted)
        self._dropped_lines_counted = total

    def request(self, method: str, route: str, status: int, seconds: float, times: int = 1) -> None:
        """Record responses.

        Args:
            method, route: ``route`` is a template, so clients cannot add labels at will.
            status: 499 = the client had gone.
            seconds: From the request's head to the response's end.
            times: How many responses.
        """
        self._request_seconds.observe(seconds, method, route, str(status), times=times)

    def process(self, figures: Mapping[str, float], cpu_s: float) -> None:
        """Record what this process has.

        Args:
            figures: By names of ``process_...``.
            cpu_s: CPU time since it began.
        """
        self._cpu.add(cpu_s - self._cpu_counted, self._part)
        self._cpu_counted = cpu_s
        for name, value in (*figures.items(), ("start_time_seconds", self._started)):
            self._process[name].set(value, self._part)

    def collect(self) -> Iterator[Metric]:
        """Every metric, of all processes together; called by prometheus_client."""
        values: dict[str, dict[tuple[str, ...], list[list[float]]]] = {}
        for _, key, numbers in self._shared.all():
            name, *labels = json.loads(key)
            values.setdefault(name, {}).setdefault(tuple(labels), []).append(list(numbers))
        # Counted with their seconds, not a second time.
        values[self._requests.name] = {
            labels: [[sum(counts)] for *counts, _ in parts]
            for labels, parts in values.get(self._request_seconds.name, {}).items()
        }
        for name, measure in self._measures.items():
            yield measure.family(values.get(name, {}))
        about = "Always 1; its labels say what is running"
        info = GaugeMetricFamily("genserve_build_info", about, labels=("version", "python"))
        info.add_metric((__version__, platform.python_version()), 1)
        yield info

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
