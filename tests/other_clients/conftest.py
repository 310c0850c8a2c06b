"""Programs of others, each in an environment of its own, kept in pytest's cache between runs."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Environment = Callable[..., Path]


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest) -> Environment:
    """``environment("kserve==0.21.0")``: the Python of an environment with these packages; the test
    is skipped where the package index does not give them."""
    cache = request.config.cache
    assert cache

    def make(*packages: str) -> Path:
        key = hashlib.sha256(" ".join((sys.version, *packages)).encode()).hexdigest()[:12]
        folder = Path(cache.mkdir("other-clients")) / key
        python = folder / "bin" / "python"
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            command = [str(python), "-m", "pip", "install", "-q", "--retries", "0", *packages]
            done = subprocess.run(command, capture_output=True, text=True, timeout=540)
            if done.returncode:
                pytest.skip(f"not to be installed: {', '.join(packages)}")
            (folder / "complete").touch()
        return python

    return make


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
