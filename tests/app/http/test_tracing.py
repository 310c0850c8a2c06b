"""Spans of requests on both paths, and of the batches that they share."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import httpx
import pytest

import app.main
from app.http.access_log import AccessLog
from tests.app.full_route import FULL_ROUTE
from tests.conftest import ROOT, MakeClient

sdk = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
FAST = "/generate?label=7"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Where spans of applications that are created from now on go."""
    found = sdk.InMemorySpanExporter()
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "5")  # ms
    monkeypatch.setattr(app.main, "otlp_exporter", lambda: found)
    return found


async def spans(exporter: Any, count: int) -> list[Any]:
    """So many spans, once they are there; the exporter has a thread."""
    async with asyncio.timeout(30):
        while len(exporter.get_finished_spans()) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return sorted(exporter.get_finished_spans(), key=lambda span: span.start_time)


def split(found: list[Any]) -> tuple[list[Any], list[Any]]:
    """Spans of requests, and of batches."""
    batches = [span for span in found if span.name.startswith("batch ")]
    return [span for span in found if span not in batches], batches


@pytest.mark.parametrize("route", [{}, FULL_ROUTE], ids=["fast path", "full route"])
async def test_a_request_continues_its_clients_trace_and_its_batch_links_to_it(
    exporter: Any, make_wire: MakeClient, route: dict[str, str]
) -> None:
    client: httpx.AsyncClient = await make_wire(traces="otlp")
    response = await client.get(FAST, headers=TRACEPARENT | route | {"X-Request-ID": "mine"})
    assert response.status_code == 200
    assert response.headers["x-trace-id"] == TRACE
    ((request,), (batch,)) = split(await spans(exporter, 2))
    assert request.name == "GET /generate"
    assert (f"{request.context.trace_id:032x}", f"{request.parent.span_id:016x}") == (TRACE, PARENT)
    assert request.attributes == {
        "http.request.method": "GET",
        "http.route": "/generate",
        "http.response.status_code": 200,
        "genserve.request_id": "mine",
    }
    assert request.resource.attributes["service.name"] == "genserve"
    assert batch.name == "batch tiny-cgan-v1 generate"
    assert [link.context for link in batch.links] == [request.context]
    assert batch.context.trace_id != request.context.trace_id
    assert batch.attributes["genserve.batch.rows"] == 1
    assert request.start_time <= batch.start_time <= batch.end_time <= request.end_time


async def test_requests_that_share_a_batch_are_linked_from_one_span(
    exporter: Any, make_wire: MakeClient
) -> None:
    client = await make_wire(traces="otlp", max_wait_ms=200)
    routes: list[dict[str, str]] = [{}] * 4 + [FULL_ROUTE] * 4  # eight rows fill a batch
    await asyncio.gather(*(client.get(FAST, headers=route) for route in routes))
    requests, batches = split(await spans(exporter, 9))
    (batch,) = batches
    linked = {link.context.span_id for link in batch.links}
    assert linked == {span.context.span_id for span in requests}
    assert len(linked) == batch.attributes["genserve.batch.requests"] == 8
    assert len({span.context.trace_id for span in requests}) == 8


@pytest.mark.parametrize("route", [{}, FULL_ROUTE], ids=["fast path", "full route"])
async def test_an_error_ends_its_span_with_its_status(
    exporter: Any, make_wire: MakeClient, route: dict[str, str]
) -> None:
    client = await make_wire(traces="otlp")
    response = await client.get(FAST.replace("label=7", "label=12"), headers=route)
    (span,) = await spans(exporter, 1)
    assert span.attributes["http.response.status_code"] == response.status_code == 422
    assert response.headers["x-trace-id"] == f"{span.context.trace_id:032x}"
    assert response.json()["request_id"] == span.attributes["genserve.request_id"]


async def test_what_a_client_sends_as_a_trace_is_ignored_unless_it_is_one(
    exporter: Any, make_wire: MakeClient
) -> None:
    client = await make_wire(traces="otlp")
    for value in ("x", f"00-{'0' * 32}-{PARENT}-01", "00-" * 400):
        response = await client.get(FAST, headers={"traceparent": value})
        assert response.status_code == 200
        assert response.headers["x-trace-id"] not in (TRACE, "0" * 32)


async def test_without_the_setting_nothing_is_traced_or_sent_back(make_wire: MakeClient) -> None:
    client = await make_wire()
    for route in ({}, FULL_ROUTE):
        response = await client.get(FAST, headers=TRACEPARENT | route)
        assert response.status_code == 200
        assert "x-trace-id" not in response.headers


def test_opentelemetrys_sdk_is_not_imported_without_the_setting() -> None:
    code = (
        "import sys; from app.main import create_app; from app.settings import Settings\n"
        "create_app(Settings())\n"
        "sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_access_log_names_the_trace() -> None:
    lines: list[bytes] = []
    head = f"x-request-id: mine\r\nx-trace-id: {TRACE}\r\n".encode()
    for form in ("json", "common"):
        log = AccessLog(form, lines.append)
        log.fast("127.0.0.1", "GET", "/generate", 200, head, 9, 0.001)
        log.fast("127.0.0.1", "GET", "/generate", 200, b"x-request-id: mine\r\n", 9, 0.001)
    traced, not_traced, common, plain = lines
    assert json.loads(traced)["trace_id"] == TRACE
    assert "trace_id" not in json.loads(not_traced)
    assert common.endswith(f" {TRACE}\n".encode())
    assert TRACE.encode() not in plain
