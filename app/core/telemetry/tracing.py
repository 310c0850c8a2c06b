"""Traces for OpenTelemetry: a span of each request, and one of each batch that links to them.

An extra: ``pip install 'genserve[otel]'``. Where spans go, how many are kept and what the service
is called follow from OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME). A batch serves requests of several traces, so its span is
the child of none: it begins a trace of its own and links to each.
"""

import os
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from app import __version__
from app.engines.rows import OperationKey
from app.errors import StartupError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

TRACE_HEADER = "x-trace-id"


class RequestTrace:
    """The span of one request.

    Args:
        span: OpenTelemetry's.
    """

    def __init__(self, span: Any) -> None:
        self.span = span

    @property
    def id(self) -> str:
        """The trace's, 32 hex digits."""
        return f"{self.span.get_span_context().trace_id:032x}"

    def end(self, method: str, route: str, status: int, request_id: str) -> None:
        """The response is there; names as in the metrics, 499 = the client had gone."""
        span = self.span
        span.update_name(f"{method} {route}")
        if span.is_recording():
            span.set_attribute("http.request.method", method)
            span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", status)
            span.set_attribute("genserve.request_id", request_id)
            if status >= 500:
                from opentelemetry.trace import StatusCode

                span.set_status(StatusCode.ERROR)
        span.end()


# The trace of the present request on the full route, as ``clients.current_client``.
current_trace: ContextVar[RequestTrace | None] = ContextVar("current_trace", default=None)


def otlp_exporter() -> "SpanExporter":
    """One that sends spans over HTTP, as OpenTelemetry's variables say.

    Raises:
        StartupError: the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise StartupError(
            f"GENSERVE_TRACES=otlp needs the extra otel: pip install 'genserve[otel]' ({error})"
        ) from error
    return OTLPSpanExporter()


class Tracing:
    """Begins and ends spans, once it is started.

    Args:
        exporter: Where spans go.
    """

    def __init__(self, exporter: "SpanExporter") -> None:
        self._exporter = exporter

    def start(self) -> None:
        """Call this in the process that serves, for it has a thread."""
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        about: dict[str, Any] = {"service.version": __version__}
        if "OTEL_SERVICE_NAME" not in os.environ:
            about["service.name"] = "genserve"
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("genserve", __version__)
        self._extract = TraceContextTextMapPropagator().extract
        self._server, self._link = trace.SpanKind.SERVER, trace.Link

    def begin(self, traceparent: str | None, tracestate: str | None = None) -> RequestTrace:
        """A request has come; its trace goes on where the client's headers say so."""
        carrier = {}
        if traceparent:
            carrier["traceparent"] = traceparent
            if tracestate:
                carrier["tracestate"] = tracestate
        context = self._extract(carrier)
        return RequestTrace(self._tracer.start_span("request", context=context, kind=self._server))

    def batch(self, key: OperationKey, traces: Sequence[object], rows: int, seconds: float) -> None:
        """A call of the model has returned.

        Args:
            key: The operation.
            traces: Those of its requests that have one.
            rows: Of the call.
            seconds: That it took.
        """
        found = [trace for trace in traces if isinstance(trace, RequestTrace)]
        ended = time.time_ns()
        span = self._tracer.start_span(
            f"batch {key[0]} {key[1]}",
            context=self._extract({}),
            links=[self._link(trace.span.get_span_context()) for trace in found],
            attributes={
                "genserve.model": key[0],
                "genserve.operation": key[1],
                "genserve.batch.rows": rows,
                "genserve.batch.requests": len(traces),
            },
            start_time=ended - int(seconds * 1e9),
        )
        span.end(ended)

    def close(self) -> None:
        """Send what there is."""
        self._provider.shutdown()
