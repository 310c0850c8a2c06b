"""What docker-compose.yml hands to the service, tried on the service."""

import os
import queue
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.conftest import ROOT

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def collector() -> Iterator[tuple[str, "queue.Queue[tuple[str, bytes]]"]]:
    """Address of what takes spans as OpenTelemetry's collector does, and the requests to it."""
    received: queue.Queue[tuple[str, bytes]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.put((self.path, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


def compose_environment(service: str, shell: dict[str, str]) -> dict[str, str]:
    """A container's variables: its own, and those of the shell that it takes."""
    declared = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][service]
    given = {
        name: shell.get(name) if value is None else str(value)
        for name, value in declared["environment"].items()
    }
    return {name: value for name, value in given.items() if value is not None}


@pytest.mark.slow
def test_traces_reach_a_collector_by_setting_compose_s_environment_alone(
    collector: tuple[str, "queue.Queue[tuple[str, bytes]]"], tiny_store: Path
) -> None:
    address, received = collector
    shell = {
        "GENSERVE_TRACES": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
        "OTEL_SERVICE_NAME": "digits",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    environment = compose_environment("genserve", shell)
    environment["OTEL_BSP_SCHEDULE_DELAY"] = "5"  # ms; the test need not wait for more
    command = [sys.executable, "-m", "app", "--port", "0", "--workers", "2"]
    with subprocess.Popen(
        [*command, "--models-dir", str(tiny_store)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        try:
            url = process.stdout.readline().split()[-1]
            traceparent = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
            asked = urllib.request.Request(f"{url}generate?label=7", headers=traceparent)
            with urllib.request.urlopen(asked, timeout=30) as answer:
                assert answer.headers["x-trace-id"] == TRACE
            resource, spans = _sent(received, 2)
        finally:
            process.terminate()
    assert resource["service.name"] == "digits"
    assert resource["deployment.environment.name"] == "test"
    assert {name: trace for name, trace in spans.items() if trace == TRACE} == {
        "GET /generate": TRACE
    }
    assert "batch tiny-cgan-v1 generate" in spans


def _sent(
    received: "queue.Queue[tuple[str, bytes]]", count: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Resource, and trace by name, of so many spans."""
    resource: dict[str, Any] = {}
    spans: dict[str, str] = {}
    while len(spans) < count:
        path, body = received.get(timeout=30)
        assert path == "/v1/traces"
        for sent in trace_service.ExportTraceServiceRequest.FromString(body).resource_spans:
            resource |= {each.key: each.value.string_value for each in sent.resource.attributes}
            for scope in sent.scope_spans:
                spans |= {span.name: span.trace_id.hex() for span in scope.spans}
    return resource, spans
