"""tests/api_walk.sh against the shipped service; it leaves out no operation and can fail."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from app.main import create_app
from app.settings import Settings

SCRIPT = Path(__file__).parents[1] / "api_walk.sh"


def walk(url: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("curl") is None:
        pytest.skip("no curl; install the distribution's package, curl")
    return subprocess.run(["sh", SCRIPT, url], capture_output=True, text=True, timeout=300)


def like(template: str) -> re.Pattern[str]:
    """A path of the OpenAPI as the paths that it stands for."""
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)))


@pytest.fixture(scope="module")
def asked(shipped: Any) -> list[tuple[str, str, set[str]]]:
    """Method, path and parameters of every request that the walk makes; all are answered well."""
    done = walk(shipped.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    found = []
    for method, target in re.findall(r"^ok   \d+ (\w+) (\S+)", done.stdout, re.MULTILINE):
        parts = urlsplit(target)
        found.append((method, parts.path, {name for name, _ in parse_qsl(parts.query)}))
    return found


def test_the_walk_asks_for_every_operation_and_gives_every_parameter_once(
    asked: list[tuple[str, str, set[str]]],
) -> None:
    for template, operations in create_app(Settings()).openapi()["paths"].items():
        path = like(template)
        given = {
            name for _, asked_for, names in asked if path.fullmatch(asked_for) for name in names
        }
        for method, operation in operations.items():
            calls = [
                call for call in asked if call[0] == method.upper() and path.fullmatch(call[1])
            ]
            assert calls, f"{method} {template}"
            known = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"}
            if template == "/generate":
                assert known <= given, known - given
    assert {"HEAD", "OPTIONS", "DELETE"} <= {method for method, _, _ in asked}


def test_the_walk_fails_where_an_answer_is_another(start_server: Any, tiny_store: Path) -> None:
    with start_server("--models-dir", str(tiny_store), "--workers", "1", "--max-n", "4") as server:
        done = walk(server.url)
    assert done.returncode == 1
    wrong = re.findall(r"^FAIL (.*)$", done.stdout, re.MULTILINE)
    assert any("/generate?n=9&seed=1" in line and "422" in line for line in wrong)
    assert f"{len(wrong)} wrong" in done.stdout
