"""What Prometheus reads, checked by its own promtool."""

import shutil
import subprocess

import pytest

from app.core.metrics import Metrics

PROMTOOL = shutil.which("promtool")

pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="no promtool (Debian: prometheus)")


def promtool(*arguments: str, given: bytes = b"") -> str:
    """What it prints; it must find nothing wrong."""
    done = subprocess.run(
        [PROMTOOL or "", *arguments], input=given, capture_output=True, timeout=60, check=False
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def busy() -> Metrics:
    """Metrics that have counted something of each kind."""
    metrics, key = Metrics(), ("a-model", "generate")
    metrics.expect_operations([key])  # type: ignore[list-item]
    metrics.expect_route("GET", "/generate", timed=True)
    metrics.batch(key, 4, 0.003)  # type: ignore[arg-type]
    metrics.request("GET", "/generate", 200, 0.002)
    metrics.process({"open_fds": 12}, 0.5)
    metrics.card("a-model", {"recall": 0.9})
    return metrics


def test_promtool_finds_nothing_wrong_with_the_metrics() -> None:
    assert not promtool("check", "metrics", given=busy().text()[0])


def test_promtool_finds_a_metric_without_help() -> None:
    text = b"# TYPE other_total counter\nother_total 1\n"
    with pytest.raises(AssertionError, match="no help text"):
        promtool("check", "metrics", given=text)
