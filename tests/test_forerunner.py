"""What is answered before the application is imported: real processes, sockets and signals."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks into /proc")

ROOT = Path(__file__).parent.parent
SLOW_SEED, SLOW_S = 666, 1.0
# The service, whose import of FastAPI waits for a file, in whichever process; and a slow seed.
GATED = f"""
import sys, time
from pathlib import Path

gate = Path(sys.argv.pop(1))

class Gate:
    def find_spec(self, name, path=None, target=None):
        if name == "fastapi":
            while not gate.exists():
                time.sleep(0.01)

sys.meta_path.insert(0, Gate())
import app.__main__
app.__main__._SOON_S = 60  # however slow the machine is

from app.engine import Engine, Sample

honest = Engine.run

def run(self, lane, rows):
    if any(isinstance(row, Sample) and row.seed == {SLOW_SEED} for row in rows):
        time.sleep({SLOW_S})
    return honest(self, lane, rows)

Engine.run = run
app.__main__.main(sys.argv[1:])
"""
ASKS = b"POST /generate?label=7&seed=%d HTTP/1.1\r\nhost: localhost\r\n\r\n"


def until(true: Callable[[], Any]) -> None:
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.02)


class Early:
    """A service that has not imported FastAPI yet."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, gate: Path) -> None:
        self.process, self.port, self.gate = process, port, gate
        self.url = f"http://127.0.0.1:{port}"

    def children(self) -> list[int]:
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(child) for child in children.read_text().split()]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def listens(self) -> bool:
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return False
        return True

    def ready(self) -> None:
        """Let it go on, and wait until its workers are there and nobody else."""
        before = self.children()
        self.gate.touch()
        assert self.process.stdout
        assert "ready" in self.process.stdout.readline()
        until(lambda: len(set(self.children()).difference(before)) == 2)
        until(lambda: not set(before).intersection(self.children()))


@pytest.fixture
def start(tiny_store: Path, tmp_path: Path) -> Any:
    @contextmanager
    def started(*options: str) -> Iterator[Early]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        gate = tmp_path / "gate"
        command = [sys.executable, "-c", GATED, str(gate), "--port", str(port), "--workers", "2"]
        with subprocess.Popen(
            [*command, "--models-dir", str(tiny_store), *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield Early(process, port, gate)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    return started


def answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of all that comes until the other side closes."""
    data = b""
    while more := connection.recv(65536):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body


def told(process: "subprocess.Popen[str]") -> str:
    """The log of a process that ends."""
    assert process.stderr
    return process.stderr.read()


def test_plain_requests_are_answered_before_fastapi_is_there_and_with_the_same_bytes(
    start: Any,
) -> None:
    with start() as early:
        until(early.listens)
        (forerunner,) = early.children()
        with early.connect() as connection:
            connection.sendall(ASKS % 5)
            status, headers, body = answer(connection)
        assert status == 200
        assert headers["connection"] == "close"
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", headers["date"])
        assert int(headers["content-length"]) == len(body)
        sixty = httpx.get(f"{early.url}/generate?n=60&format=npy&seed=1")
        assert sixty.status_code == 200
        wrong = httpx.post(f"{early.url}/generate?label=99")
        assert wrong.status_code == 422
        assert "99" in wrong.json()["detail"]
        assert early.children() == [forerunner]
        early.ready()

        again = httpx.post(f"{early.url}/generate?label=7&seed=5")
        assert again.content == body
        same = {name.lower(): value for name, value in headers.items()}
        for name in ("etag", "x-seed", "x-model", "content-type", "cache-control"):
            assert again.headers.get(name) == same.get(name)
        assert httpx.get(f"{early.url}/generate?n=60&format=npy&seed=1").content == sixty.content
        counted = re.findall(
            r'genserve_requests_total\{.*route="/generate",status="(\d+)"\} (\S+)',
            httpx.get(f"{early.url}/metrics").text,
        )
        totals: dict[str, float] = {}
        for code, count in counted:
            totals[code] = totals.get(code, 0) + float(count)
        assert totals == {"200": 4, "422": 1}


def test_what_is_not_plain_is_read_by_a_worker(start: Any) -> None:
    with start() as early:
        until(early.listens)
        silent, begun, other, gone = (early.connect() for _ in range(4))
        with silent, begun, other:
            begun.sendall((ASKS % 5)[:20])
            other.sendall(b"GET /status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            gone.sendall(b"GET /status HTTP/1.1\r\n")
            gone.close()
            # All have been looked at before this one, which is answered.
            with early.connect() as connection:
                connection.sendall(ASKS % 5)
                _, _, body = answer(connection)
            early.ready()
            status, _, found = answer(other)
            assert (status, found[:1]) == (200, b"{")
            begun.sendall((ASKS % 5)[20:-2] + b"connection: close\r\n\r\n")
            silent.sendall((ASKS % 5)[:-2] + b"connection: close\r\n\r\n")
            assert answer(begun)[2] == answer(silent)[2] == body


def test_what_it_works_on_when_it_is_relieved_is_answered(start: Any) -> None:
    with start() as early:
        until(early.listens)
        (forerunner,) = early.children()
        with early.connect() as connection:
            connection.sendall(ASKS % SLOW_SEED)
            early.gate.touch()
            assert answer(connection)[0] == 200
        until(lambda: forerunner not in early.children())
        early.process.send_signal(signal.SIGTERM)
        assert early.process.wait(timeout=30) == 0
        assert "ERROR" not in told(early.process)


@pytest.mark.parametrize("whom", ["process", "group"])
def test_a_stop_before_there_are_workers_lets_it_finish(start: Any, whom: str) -> None:
    with start() as early:
        until(early.listens)
        with early.connect() as connection:
            connection.sendall(ASKS % SLOW_SEED)
            time.sleep(SLOW_S / 4)
            if whom == "group":
                os.killpg(early.process.pid, signal.SIGINT)
            else:
                early.process.send_signal(signal.SIGTERM)
            assert answer(connection)[0] == 200
        assert early.process.wait(timeout=30) == 0
        assert not early.listens()
        assert "Traceback" not in told(early.process)


def test_it_does_not_outlive_its_supervisor(start: Any) -> None:
    with start() as early:
        until(early.listens)
        (forerunner,) = early.children()
        early.process.kill()
        until(lambda: not early.listens())
        until(lambda: not Path(f"/proc/{forerunner}/exe").exists())


def test_its_death_delays_nobody(start: Any) -> None:
    with start() as early:
        until(early.listens)
        (forerunner,) = early.children()
        os.kill(forerunner, signal.SIGKILL)
        early.ready()
        assert httpx.post(f"{early.url}/generate?label=7").status_code == 200
        early.process.send_signal(signal.SIGTERM)
        assert early.process.wait(timeout=30) == 0
        log = told(early.process)
        assert log.count("the process that served first ended with status -9") == 1


def test_many_that_wait_are_all_served(start: Any) -> None:
    """More than it holds itself."""
    with start() as early:
        until(early.listens)
        waiting = [early.connect() for _ in range(700)]
        for connection in waiting:
            connection.sendall(
                b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            )
        early.ready()
        for connection in waiting:
            with connection:
                assert answer(connection)[0] == 200


def test_with_keys_nothing_is_answered_before_the_application_is_there(
    start: Any, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("k" * 40)
    with start("--api-keys-file", str(keys)) as early:
        time.sleep(1.5)
        assert not early.listens()
        early.ready()
        assert httpx.post(f"{early.url}/generate?label=7").status_code == 401
