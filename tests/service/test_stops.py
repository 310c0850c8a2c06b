"""Stops of a real service: no connection is reset, and every signal ends it in order."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.live_service import connect, post, read, until

ROOT = Path(__file__).parents[2]
STOPS = int(os.environ.get("STOPS", "4"))  # under load, in all
TARGETS = ["/generate?label=7", "/interpolate?label=7&steps=3", "/nothing", "/generate?label=11"]


class Busy(threading.Thread):
    """Clients that send one request after the other on connections kept alive.

    A connection that is closed is opened anew, unless its last response did not say that it would
    be: that is what ``lost`` counts, with requests that were reset.
    """

    def __init__(self, url: str, target: str) -> None:
        super().__init__()
        self._address = urlsplit(url).netloc.split(":")
        self._target = target
        self.stopped = threading.Event()
        self.lost: list[str] = []
        self.answered = 0

    def run(self) -> None:
        while not self.stopped.is_set():
            host, port = self._address
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            try:
                connection.connect()
            except OSError:  # the kernel refuses: there is no service any more
                return
            closing = False
            try:
                while not closing and not self.stopped.is_set():
                    connection.request("POST", self._target)
                    response = connection.getresponse()
                    response.read()
                    self.answered += 1
                    closing = response.getheader("connection") == "close"
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
            finally:
                connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_busy_client_is_reset_by_a_stop(
    start_server: Any, tiny_store: Path, workers: str
) -> None:
    for _ in range(STOPS // 2):
        with start_server("--models-dir", str(tiny_store), "--workers", workers) as server:
            clients = [Busy(server.url, target) for target in TARGETS * 3]
            for client in clients:
                client.start()
            until(lambda: all(client.answered > 5 for client in clients))  # noqa: B023
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30) == 0
            for client in clients:
                client.stopped.set()
                client.join()
            assert [client.lost for client in clients] == [[]] * len(clients)


@pytest.mark.slow
def test_every_response_of_a_drain_closes_its_connection(
    start_server: Any, tiny_store: Path
) -> None:
    options = ["--drain-delay-seconds", "5", "--workers", "1"]
    requests = [
        post("/generate?label=7"),
        post("/generate?label=7&scale=2"),
        post("/generate?label=11"),
        post("/nothing"),
        b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /static/index.html HTTP/1.1\r\nHost: test\r\n\r\n",
    ]
    with start_server("--models-dir", str(tiny_store), *options) as server:
        idle = [connect(server.url) for _ in requests]
        for connection in idle:
            connection.sendall(post("/generate?label=1"))
            assert "connection" not in read(connection).headers
        server.process.send_signal(signal.SIGTERM)
        until(lambda: ready(server.url) == 503)
        for connection, request in zip(idle, requests, strict=True):
            with connection:
                connection.sendall(request)
                assert read(connection).headers["connection"] == "close", request
                assert connection.recv(1) == b""
        server.process.send_signal(signal.SIGINT)  # does not wait for the rest
        assert server.process.wait(10) == 0


def ready(url: str) -> int:
    with connect(url) as connection:
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: test\r\n\r\n")
        return read(connection).status


@pytest.mark.slow
def test_an_idle_connection_ends_without_a_reset(start_server: Any, tiny_store: Path) -> None:
    with start_server("--models-dir", str(tiny_store), "--workers", "2") as server:
        with connect(server.url) as used, connect(server.url) as fresh:
            used.sendall(post("/generate?label=1"))
            assert read(used).status == 200
            server.process.send_signal(signal.SIGTERM)
            assert used.recv(1) == fresh.recv(1) == b""  # ConnectionResetError otherwise
        assert server.process.wait(30) == 0


@pytest.mark.slow
def test_ctrl_c_at_any_time_of_the_start_is_no_traceback(tiny_store: Path) -> None:
    command = [sys.executable, "-m", "app", "--port", "0", "--models-dir", str(tiny_store)]
    for workers in ("1", "2"):
        for after_s in (0.15, 0.3, 0.6, 1.0):
            process = subprocess.Popen(
                [*command, "--workers", workers, "--log-level", "error"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            time.sleep(after_s)  # any time is one that a user may choose
            os.killpg(process.pid, signal.SIGINT)
            _, errors = process.communicate(timeout=30)
            if process.returncode == -signal.SIGINT and not errors:
                continue  # on a busy machine Python itself had not begun to hear signals
            assert process.returncode == 0, errors
            assert len(errors.splitlines()) <= 1, errors


HANGING = """
import os, signal, sys, time
from app.engines.onnx_backend import OnnxBackend
from app.__main__ import main

run = OnnxBackend.run

def hang(self, operation, batch, labels):
    if os.path.exists(sys.argv[1]):
        time.sleep(60)
    return run(self, operation, batch, labels)

OnnxBackend.run = hang
OnnxBackend.bounded_time = property(lambda self: False, lambda self, value: None)  # in a thread
main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_ctrl_c_ends_it_at_once_though_a_model_hangs(
    tiny_store: Path, tmp_path: Path, workers: str
) -> None:
    flag = tmp_path / "hang"
    command = [sys.executable, "-c", HANGING, str(flag), "--port", "0", "--workers", workers]
    with subprocess.Popen(
        [*command, "--models-dir", str(tiny_store), "--hang-seconds", "60"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        url = process.stdout.readline().rpartition(" ")[2].strip().rstrip("/")
        flag.touch()
        connection = connect(url)
        connection.sendall(post("/generate?label=7"))
        connection.settimeout(1)
        with pytest.raises(socket.timeout):
            connection.recv(1)
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(1)  # a person's
        os.killpg(process.pid, signal.SIGINT)
        process.wait(5)
        connection.close()
