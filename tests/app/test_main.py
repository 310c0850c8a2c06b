"""``python -m app`` where it cannot run at all: one line that says what to do."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from app.__main__ import OLDEST_PYTHON

ROOT = Path(__file__).parents[2]
# Runs ``python -m app`` after a change to the interpreter.
RUN_APP = "import runpy; runpy.run_module('app', run_name='__main__')"
OLD_PYTHON = f"import sys; sys.version_info, sys.version = (3, 9, 18), '3.9.18 (main)'; {RUN_APP}"
HIDE_FASTAPI = f"""
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "fastapi":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hide())
{RUN_APP}
"""


def complaint(*arguments: str) -> str:
    """The line with which Python ends when it runs these arguments; the log may precede it."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert line.startswith(f"genserve: {sys.executable} ")
    return line


def test_without_the_packages_a_line_says_what_is_missing_and_how_to_install_it() -> None:
    line = complaint("-S", "-m", "app")
    assert "has no package 'pydantic'" in line
    assert "make serve" in line
    assert "pip install ." in line


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_package_that_is_missed_only_later_is_named_too(tiny_store: Path, workers: str) -> None:
    options = ["--port", "0", "--models-dir", str(tiny_store), "--workers", workers]
    assert "has no package 'fastapi'" in complaint("-c", HIDE_FASTAPI, *options)


def test_a_python_that_is_too_old_is_named_with_the_one_that_is_needed() -> None:
    line = complaint("-c", OLD_PYTHON)
    assert line.endswith(" is Python 3.9.18; Python 3.11 or newer is needed")


def test_an_old_python_can_read_what_comes_before_that_line() -> None:
    for name in ("__init__", "__main__", "process/__init__", "process/exit_status"):
        ast.parse((ROOT / f"app/{name}.py").read_text(), feature_version=(3, 6))


def test_the_oldest_python_is_the_one_that_the_package_requires() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={'.'.join(map(str, OLDEST_PYTHON))}"


def test_installing_the_service_brings_no_command() -> None:
    """``genserve`` is the client's, and would fail without it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not {"scripts", "gui-scripts", "entry-points"} & set(project)
