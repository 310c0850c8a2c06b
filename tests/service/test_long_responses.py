"""Responses that take long: datasets, and clients that read slowly or leave. Real processes."""

import re
import signal
import socket
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.live_service import connect, counted, post, until


def begin(url: str, path: str) -> tuple[socket.socket, bytes]:
    """POST, and what has come of the answer when something of its body has."""
    connection = connect(url)
    connection.sendall(post(path))
    seen = b""
    while not seen.partition(b"\r\n\r\n")[2]:
        part = connection.recv(65536)
        assert part, seen
        seen += part
    assert seen.startswith(b"HTTP/1.1 200"), seen[:300]
    return connection, seen


def rest_of(connection: socket.socket) -> bytes:
    """All that still comes until the connection ends, by whatever end."""
    seen = bytearray()
    try:
        while part := connection.recv(1 << 20):
            seen += part
    except ConnectionResetError:
        pass
    return bytes(seen)


LAST_CHUNK = b"\r\n0\r\n\r\n"  # of an answer that came whole


def test_a_client_that_leaves_a_dataset_stops_the_work(slow: str) -> None:
    images = counted(slow, "genserve_images_total", "tiny-cgan")
    connection, _ = begin(slow, "/dataset?n=100000&model=tiny-cgan-v1")
    connection.close()
    until(lambda: counted(slow, "genserve_requests_in_flight") == 0)
    # A call that runs is finished; nothing after it. Readiness is not asked here.
    until(lambda: idle(slow))
    assert counted(slow, "genserve_images_total", "tiny-cgan") - images <= 16 * 8


def idle(url: str) -> bool:
    """Whether no image is made in the time of two calls, 16 images at 100 a second."""
    before = counted(url, "genserve_images_total")
    time.sleep(0.32)
    return counted(url, "genserve_images_total") == before


def test_single_images_go_before_a_dataset_and_are_not_refused_for_it(start_slow: Any) -> None:
    """With no wait allowed at all: the only thing that could refuse them is the dataset."""
    with start_slow("--max-queue-ms", "0") as server:
        connection, _ = begin(server.url, "/dataset?n=100000")
        with connection:
            for _ in range(10):
                assert httpx.post(f"{server.url}/generate?label=7").status_code == 200
            made = counted(server.url, "genserve_images_total", "tiny-cgan")
            # It goes on beside them.
            until(lambda: counted(server.url, "genserve_images_total", "tiny-cgan") > made + 32)
        refused = counted(server.url, "genserve_refused_requests_total")
    assert refused == 0


def test_a_dataset_is_cut_at_the_end_of_a_drain(start_slow: Any) -> None:
    with start_slow("--drain-seconds", "1") as server:
        connection, seen = begin(server.url, "/dataset?n=100000")
        with connection:
            server.process.send_signal(signal.SIGTERM)
            seen += rest_of(connection)
            assert not seen.endswith(LAST_CHUNK)
        assert server.process.wait(timeout=30) == 0


def test_a_client_that_reads_nothing_is_cut(start_server: Any, tiny_store: Path) -> None:
    # One process, which tells at once what is in flight in it.
    options = ["--models-dir", str(tiny_store), "--stall-seconds", "1", "--workers", "1"]
    with start_server(*options) as server:
        connection, seen = begin(server.url, "/dataset?n=1000000&format=npz")
        with connection:
            until(lambda: counted(server.url, "genserve_requests_in_flight") == 0)
            # What was in the kernel's buffers comes, and then the end: not a quiet wait for ever.
            seen += rest_of(connection)
        assert len(seen) < 100_000_000
        assert httpx.post(f"{server.url}/generate?label=7").status_code == 200


def memory_kib(server: Any, of: str) -> int:
    """VmRSS now, or VmHWM at most so far."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (found,) = re.findall(rf"^{of}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("form", ["zip", "npz"])
def test_the_memory_stays_flat_while_60000_images_are_sent(
    start_server: Any, tiny_store: Path, tmp_path: Path, form: str
) -> None:
    # One process: of several, the supervisor's memory would be measured.
    with start_server("--models-dir", str(tiny_store), "--workers", "1") as server:
        ask = f"{server.url}/dataset?seed=1&format={form}&n="
        for _ in range(3):
            assert httpx.post(f"{ask}2000").status_code == 200
        before = memory_kib(server, "VmRSS")
        path = tmp_path / f"made.{form}"
        with httpx.stream("POST", f"{ask}60000", timeout=60) as answer, path.open("wb") as file:
            for part in answer.iter_raw():
                file.write(part)
        most = memory_kib(server, "VmHWM")
        assert server.stop() == 0
    assert path.stat().st_size > 12_000_000
    assert most - before < 6 * 1024
    if form == "npz":
        with np.load(path, allow_pickle=False) as arrays:
            assert arrays["images"].shape == (60_000, 28, 28)
            assert np.bincount(arrays["labels"]).tolist() == [6_000] * 10
            assert len(np.unique(arrays["seeds"])) == 60_000
    else:
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert len(archive.namelist()) == 60_001
            assert archive.read("metadata.csv").count(b"\n") == 60_001
