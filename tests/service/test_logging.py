"""The log of a real service: never in the way, never flooded, with an access log if wanted."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from tests.live_service import connect, counted, get, post, read

ROOT = Path(__file__).parents[2]


class Logged:
    """A service whose output is not read, or goes to files."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        self.process, self.url = process, url

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def serving(store: Path, errors: int | IO[Any], *options: str) -> Iterator[Logged]:
    command = [sys.executable, "-m", "app", "--port", "0", "--models-dir", str(store), *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)
    try:
        assert process.stdout
        url = process.stdout.readline().decode().rpartition(" ")[2].strip().rstrip("/")
        yield Logged(process, url)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def send_and_reset(url: str, data: bytes) -> None:
    """Send, and reset the connection without reading."""
    connection = connect(url)
    connection.sendall(data)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_log_that_nobody_reads_stops_neither_requests_nor_the_end(
    tiny_store: Path, workers: str
) -> None:
    with serving(tiny_store, subprocess.PIPE, "--workers", workers) as service:
        assert service.process.stderr
        # Until the pipe is full.
        filler = os.open(f"/proc/{os.getpid()}/fd/{service.process.stderr.fileno()}", os.O_WRONLY)
        os.set_blocking(filler, False)
        try:
            while True:
                os.write(filler, b"x" * 512)
        except BlockingIOError:
            pass
        finally:
            os.close(filler)
        for _ in range(100):
            with connect(service.url) as connection:
                connection.sendall(b"rubbish\r\n\r\n")
                assert read(connection).status == 400
            send_and_reset(service.url, post("/generate?n=2") * 20)
        with connect(service.url) as connection:
            connection.sendall(post("/generate?label=7"))
            assert read(connection).status == 200
        assert counted(service.url, "genserve_requests_total", 'status="400"') == 100
        assert service.stop() == 0


@pytest.mark.slow
def test_clients_that_leave_or_send_rubbish_fill_no_log(tiny_store: Path, tmp_path: Path) -> None:
    requests = [
        b"GET /static/index.html HTTP/1.1\r\nHost: test\r\n\r\n" * 20,
        post("/generate?format=webp&n=4") * 8,
        post("/dataset?n=3000"),
        post("/encode", Content_Type="image/png", Content_Length="100") + b"x" * 50,
        post("/interpolate?steps=60&format=webp"),
        b"GET /livez HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        b"\x81\x85abcd",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ]
    log = (tmp_path / "log").open("wb")
    with log, serving(tiny_store, log, "--workers", "1") as service:
        for _ in range(20):
            for request in requests:
                send_and_reset(service.url, request)
                with connect(service.url) as connection:  # a FIN instead, and unread answers
                    connection.sendall(request)
        with connect(service.url) as connection:
            connection.sendall(post("/generate?label=7"))
            assert read(connection).status == 200
        assert service.stop() == 0
    text = (tmp_path / "log").read_text()
    assert "Traceback" not in text, text[:3000]
    assert "ERROR" not in text, text[:3000]
    assert text.count("WARNING") <= 3, text[:3000]


def test_an_access_log_has_the_number_and_the_times_of_each_request(
    tiny_store: Path, tmp_path: Path
) -> None:
    asked = {
        "fast": post("/generate?label=7&seed=1", X_Request_ID="fast"),
        "full": post("/generate?label=7&scale=2", X_Request_ID="full"),
        "none": post("/nothing%20%22here?key=CanaryKey", X_Request_ID="none"),
        "live": b"GET /livez HTTP/1.1\r\nHost: test\r\nX-Request-ID: live\r\n\r\n",
    }
    for form in ("json", "common"):
        with serving(tiny_store, subprocess.DEVNULL, "--workers", "1", "--access-log", form) as it:
            sizes = {}
            for number, request in asked.items():
                with connect(it.url) as connection:
                    connection.sendall(request)
                    sizes[number] = len(read(connection).body)
            with connect(it.url) as connection:
                connection.sendall(b"rubbish\r\n\r\n")
                refused = read(connection).headers["x-request-id"]
            assert it.stop() == 0
            assert it.process.stdout
            lines = it.process.stdout.read().decode().splitlines()
        assert "Canary" not in str(lines)
        if form == "common":
            pattern = (
                r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
                r'"(\S+ \S+) HTTP/1\.1" (\d{3}) (\d+) "([^"]+)" [\d.]+ (-|[\d.]+) (-|[\d.]+)'
            )
            found = {}
            for line in lines:
                match = re.fullmatch(pattern, line)
                assert match, line
                found[match[4]] = match[1], int(match[2]), int(match[3]), match[5] != "-"
            assert set(found) == {*asked, refused}
            assert found["fast"] == ("POST /generate", 200, sizes["fast"], True)
            assert found["none"] == ("POST /nothing%20%22here", 404, sizes["none"], False)
            continue
        entries = {entry["request_id"]: entry for entry in map(json.loads, lines)}
        assert set(entries) == {*asked, refused}
        for number in ("fast", "full"):
            entry = entries[number]
            assert entry["client"] == "127.0.0.1"
            assert (entry["method"], entry["path"]) == ("POST", "/generate")
            assert (entry["status"], entry["bytes"]) == (200, sizes[number])
            assert 0 <= entry["queue_ms"] + entry["model_ms"] <= entry["ms"] + 1
        assert (entries["none"]["path"], entries["none"]["status"]) == ('/nothing "here', 404)
        assert entries["live"]["queue_ms"] is None
        assert (entries[refused]["method"], entries[refused]["status"]) == ("-", 400)


def test_a_level_leaves_out_what_is_below_it(tiny_store: Path, tmp_path: Path) -> None:
    for level, some in (("info", True), ("error", False)):
        log = (tmp_path / level).open("wb")
        options = "--workers", "1", "--log-level", level
        with log, serving(tiny_store, log, *options) as service:
            assert get(service.url, "/livez")[0] == 200
        assert bool((tmp_path / level).read_text()) == some
