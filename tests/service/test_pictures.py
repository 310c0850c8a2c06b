"""Pictures that take too long, sent to a service in processes of its own."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.hostile import endless_jpeg, picture
from tests.live_service import connect, counted, post, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]
JPEG = {"Content-Type": "image/jpeg"}


def below(pid: int) -> set[int]:
    """All processes that a process has started, and those that they have."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return set()
    return {int(child) for child in children}.union(*(below(int(child)) for child in children))


def test_endless_pictures_end_at_their_deadline_and_hold_nobody_up(
    start_server: Any, tiny_store: Path
) -> None:
    endless = endless_jpeg()
    options = ["--models-dir", str(tiny_store), "--workers", "1", "--max-scans", "10000"]
    with start_server(*options, "--max-chunks", "10000") as server:
        url = server.url
        head = post("/encode", Content_Type="image/jpeg", Content_Length=str(len(endless)))
        for _ in range(4):  # these leave at once
            with connect(url) as connection:
                connection.sendall(head + endless)
        # Those that run end long before their deadline, which is half a minute away.
        until(lambda: counted(url, "genserve_codec_jobs_total", "left") >= 1, within_s=20)
        headers = {**JPEG, "X-Timeout-Ms": "500"}
        answer = httpx.post(f"{url}/encode", content=endless, headers=headers, timeout=60)
        assert answer.status_code == 504
        assert answer.json()["type"] == "/problems/deadline-exceeded"
        small = {"Content-Type": "image/png"}
        read = httpx.post(f"{url}/encode", content=picture(), headers=small, timeout=60)
        assert read.status_code == 200
        assert counted(url, "genserve_codec_jobs_total", "deadline") >= 1
        until(lambda: counted(url, "genserve_codec_processes") == 2)


def test_a_worker_that_is_killed_takes_its_codec_along(start_server: Any, tiny_store: Path) -> None:
    with start_server("--models-dir", str(tiny_store), "--workers", "2") as server:
        until(lambda: len(below(server.process.pid)) == 8)  # 2 workers, 2 servers, 4 processes
        first = min(below(server.process.pid))
        own = below(first)
        assert len(own) == 3
        os.kill(first, signal.SIGKILL)
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in own))
        until(lambda: len(below(server.process.pid)) == 8)
        assert server.stop() == 0
