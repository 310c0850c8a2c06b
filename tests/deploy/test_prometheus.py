"""What Prometheus reads, checked by its own promtool."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from app.core.telemetry.metrics import Metrics
from tests.conftest import ROOT

PROMTOOL = shutil.which("promtool")
FOLDER = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/dashboards/genserve.json"
# Of others: of haproxy, of Prometheus itself.
FOREIGN = {"up", "ALERTS"}

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


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    return list(group["rules"])


def test_the_configuration_and_the_rules_are_valid() -> None:
    promtool("check", "config", str(FOLDER / "prometheus.yml"))


def test_each_alert_fires_on_its_series_and_is_quiet_on_others() -> None:
    promtool("test", "rules", str(FOLDER / "rules.test.yml"))
    cases = yaml.safe_load((FOLDER / "rules.test.yml").read_text())["tests"]
    named = {case["name"] for case in cases}
    assert named == {f"{a['alert']} {does}" for a in alerts() for does in ("fires", "is quiet")}


def test_a_rule_that_cannot_fire_fails_its_test(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "copy")
    rules = tmp_path / "copy/rules.yml"
    rules.write_text(rules.read_text().replace("genserve_refused_checkpoints > 0", "vector(0) > 0"))
    with pytest.raises(AssertionError, match="GenserveRefusedCheckpoint"):
        promtool("test", "rules", str(tmp_path / "copy/rules.test.yml"))


def test_each_alert_says_what_it_means_and_what_to_do() -> None:
    guide = (ROOT / "docs/how-to/monitor.md").read_text()
    for alert in alerts():
        assert alert["annotations"]["summary"]
        assert len(alert["annotations"]["action"]) > 40
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert f"`{alert['alert']}`" in guide


def queries() -> Iterator[str]:
    """Every query of the rules and of the dashboard."""
    yield from (alert["expr"] for alert in alerts())
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def test_rules_and_dashboard_ask_for_metrics_that_there_are(tmp_path: Path) -> None:
    known = {sample.name for metric in busy().collect() for sample in metric.samples}
    known |= {m.name + "_total" * (m.type == "counter") for m in Metrics().collect()}
    known |= {f"{m.name}_bucket" for m in Metrics().collect() if m.type == "histogram"}
    for query in queries():
        named = set(re.findall(r"\b((?:genserve|process)_[a-z_]+|up)\b(?!\s*=)", query))
        assert named, query
        assert named <= known | FOREIGN, named - known


def test_every_query_of_the_dashboard_can_be_parsed(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{i}", "expr": query.replace("$__rate_interval", "1m")}
        for i, query in enumerate(queries())
    ]
    given = tmp_path / "queries.yml"
    given.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(given))
