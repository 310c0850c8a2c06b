"""Programs of others, each in an environment of its own, kept in pytest's cache between runs."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Environment = Callable[..., Path]
_Install = Callable[[Path, tuple[str, ...]], list[str]]


def _kept(config: pytest.Config, install: _Install, packages: tuple[str, ...]) -> Path:
    """The folder in which a command installed these packages, now or in an earlier run; the test is
    skipped where the package index does not give them.

    Args:
        install: Prepares the folder, and returns the command.
    """
    assert config.cache
    key = hashlib.sha256(" ".join((sys.version, *packages)).encode()).hexdigest()[:12]
    folder = Path(config.cache.mkdir("other-clients")) / key
    if not (folder / "complete").exists():
        command = install(folder, packages)
        done = subprocess.run(command, capture_output=True, text=True, timeout=540)
        if done.returncode:
            pytest.skip(f"not to be installed: {', '.join(packages)}")
        (folder / "complete").touch()
    return folder


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest) -> Environment:
    """``environment("kserve==0.21.0")``: the Python of an environment with these packages."""

    def install(folder: Path, packages: tuple[str, ...]) -> list[str]:
        uv = str(Path(sys.executable).with_name("uv"))  # `make dev` installs it
        subprocess.run([uv, "venv", "-q", "--clear", "-p", sys.executable, str(folder)], check=True)
        return [uv, "pip", "install", "-q", "-p", str(folder / "bin" / "python"), *packages]

    return lambda *packages: _kept(request.config, install, packages) / "bin" / "python"


@pytest.fixture(scope="session")
def node_modules(request: pytest.FixtureRequest) -> Environment:
    """``node_modules("openapi-fetch@0.17.0")``: a folder of that name with these packages; the test
    is skipped where there is no npm."""

    def install(folder: Path, packages: tuple[str, ...]) -> list[str]:
        npm = shutil.which("npm") or pytest.skip("there is no npm here")
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0"]
        return [npm, "install", "--prefix", str(folder), *options, *packages]

    return lambda *packages: _kept(request.config, install, packages) / "node_modules"


def run(python: Path, code: str, *arguments: str, cwd: Path | None = None) -> str:
    """What a program prints; it must end well."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), "-c", code, *arguments],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
