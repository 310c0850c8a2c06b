"""``make serve`` and ``make dev``: what they install, with which Python, and what they say.

Python is a script here: it builds environments of scripts, and writes down what it is asked to do.
"""

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FAKE_PYTHON = """#!/bin/sh
case "$1 $2" in
  "-c "*) echo "{found}" ;;
  "-m venv")
    rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python"
    printf '#!/bin/sh\\necho "uv $*" >> {log}\\n' > "$4/bin/uv"; chmod +x "$4/bin/uv" ;;
  *) echo "$*" >> {log} ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


class Make:
    """The Makefile, with an environment of its own."""

    def __init__(self, folder: Path) -> None:
        self.venv, self._folder, self._log = folder / "venv", folder, folder / "log"

    def python(self, version: str, good: bool) -> str:
        """A Python of this version; its path."""
        path = self._folder / f"python{version}"
        found = f"{version} {'ok' if good else 'old'}"
        path.write_text(FAKE_PYTHON.format(found=found, log=self._log))
        path.chmod(0o755)
        return str(path)

    def __call__(
        self, target: str, python: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        # Without what an outer make (`make test`) passes on: with it, this one prints its folder.
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in {"PY", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
        }
        if python:
            environment["PY"] = python
        return subprocess.run(
            ["make", target, f"VENV={self.venv}"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def done(self) -> list[str]:
        """What was asked of Python and uv since the last call."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return Make(tmp_path)


def test_serve_says_what_it_does_installs_both_distributions_once_and_serves(make: Make) -> None:
    done = make("serve", make.python("3.12", good=True))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == [
        f"Creating {make.venv} with Python 3.12",
        "Installing uv, which installs the rest",
        f"Installing the service and its client into {make.venv}: about a minute",
    ]
    pip, uv, app = make.done()
    assert pip == "-m pip install -q -c constraints.txt uv"
    assert uv.endswith(" -e . -e ./client")
    assert app.startswith("-m app --host ")
    assert "Installing" not in make("serve", make.python("3.12", good=True)).stdout
    assert make.done() == [app]


def test_dev_installs_the_extras_and_the_client_and_serve_adds_nothing(make: Make) -> None:
    assert make("dev", make.python("3.12", good=True)).returncode == 0
    assert make.done()[-1].endswith(" -e .[train,dev] -e ./client")
    make("serve")
    assert len(make.done()) == 1


def test_a_python_that_is_too_old_is_refused_at_once_in_one_line(make: Make) -> None:
    python = make.python("3.9", good=False)
    done = make("serve", python)
    assert done.returncode != 0
    assert f"{python} is Python 3.9; Python 3.11 or newer is needed" in done.stderr
    assert "PY=python3.12 make serve" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert not make.venv.exists()


def test_the_oldest_python_is_the_one_that_the_package_requires() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=")
    text = (ROOT / "Makefile").read_text()
    assert f"v >= ({oldest.replace('.', ', ')})" in text
    assert f"Python {oldest} or newer is needed" in text


def test_where_there_is_no_python_a_line_says_so(make: Make) -> None:
    done = make("dev", "/nonexistent/python3")
    assert done.returncode != 0
    assert "/nonexistent/python3 does not run; Python 3.11 or newer is needed" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert make("help", "/nonexistent/python3").returncode == 0


def test_an_environment_that_another_python_built_is_built_anew(make: Make) -> None:
    make("serve", make.python("3.12", good=True))
    (make.venv / "leftover").touch()
    make.done()
    done = make("serve", make.python("3.13", good=True))
    assert f"Creating {make.venv} with Python 3.13" in done.stdout
    assert len(make.done()) == 3
    assert not (make.venv / "leftover").exists()


def test_unless_one_is_named_the_python_that_built_the_environment_is_used(make: Make) -> None:
    make("serve", make.python("3.13", good=True))
    make.done()
    assert "Creating" not in make("serve").stdout
    assert len(make.done()) == 1


@pytest.mark.parametrize("left", ["an old Python's", "one without its Python"])
def test_an_environment_that_does_not_work_is_built_anew(make: Make, left: str) -> None:
    (make.venv / "bin").mkdir(parents=True)
    (make.venv / "bin" / "uv").touch()
    (make.venv / ".installed-serve").touch()
    if left == "an old Python's":  # as it was made before the version was checked
        old = make.python("3.9", good=False)
        shutil.copy(old, make.venv / "bin" / "python")
    else:
        (make.venv / ".python-3.12").touch()
        (make.venv / "bin" / "python").symlink_to("/nonexistent/python3")
    done = make("serve", make.python("3.13", good=True))
    assert f"Creating {make.venv} with Python 3.13" in done.stdout
    assert len(make.done()) == 3
