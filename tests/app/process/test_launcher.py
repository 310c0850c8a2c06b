"""How the service starts, why it does not, and how a start is stopped: real processes."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.process.sockets import bind

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")

ROOT = Path(__file__).parents[3]


def run_app(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "app", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_service_that_cannot_start_says_so_once_and_ends(tmp_path: Path) -> None:
    done = run_app("--port", "0", "--workers", "2", "--models-dir", str(tmp_path))
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("genserve: no checkpoint to serve") == 1


def test_of_two_services_on_one_port_one_says_so(start_server: Any, tiny_store: Path) -> None:
    with start_server("--models-dir", str(tiny_store)) as server:
        port = str(urlsplit(server.url).port)
        done = run_app("--models-dir", str(tiny_store), "--port", port)
        assert done.returncode == 3
        assert "in use" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("host", ["::", "[::]", ""])
def test_all_addresses_are_those_of_both_families(host: str) -> None:
    sockets = bind(host, 0)
    try:
        assert {bound.family for bound in sockets} == {socket.AF_INET, socket.AF_INET6}
        assert len({bound.getsockname()[1] for bound in sockets}) == 1
    finally:
        for bound in sockets:
            bound.close()


def test_a_taken_port_is_reported_before_anything_is_loaded() -> None:
    (taken,) = bind("127.0.0.1", 0)
    with taken:
        taken.listen()
        done = run_app("--port", str(taken.getsockname()[1]), "--models-dir", "/nonexistent")
    assert done.returncode == 3
    assert done.stderr.startswith("genserve: cannot listen on 127.0.0.1 port ")
    assert "in use" in done.stderr


# Stops itself, as Ctrl-C does the whole process group, when a module is first looked for.
STOPS = """
import os, signal, sys
from app.__main__ import main

number, module = int(sys.argv.pop(1)), sys.argv.pop(1)

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.killpg(0, number)

sys.meta_path.insert(0, Stop())
main(sys.argv[1:])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("workers", "module"),
    [
        ("1", "fastapi"),
        ("1", "onnxruntime"),  # uvicorn has begun to start the application
        ("2", "app.process.preload"),
        ("2", "onnxruntime"),
        ("2", "app.process.server"),
    ],
)
def test_a_stop_during_the_start_ends_it_in_order(
    tiny_store: Path, tmp_path: Path, number: signal.Signals, workers: str, module: str
) -> None:
    command = [sys.executable, "-c", STOPS, str(number), module, "--port", "0"]
    done = subprocess.run(
        [*command, "--models-dir", str(tiny_store), "--engine", "onnx", "--workers", workers],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_stop_during_a_native_import_is_no_exception() -> None:
    """It would come out as an ImportError."""
    program = (
        "import signal, sys\n"
        "from app.process.launcher import exit_at_stop_signals\n"
        "exit_at_stop_signals()\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "finally:\n"
        "    print('an exception')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
