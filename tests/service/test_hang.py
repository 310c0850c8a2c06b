"""A model that hangs: who waits is answered, and the process ends. Real processes, real sockets."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx

from tests.live_service import at_once, connect, get, post, read, until

HANG_SEED = 666
HANGS = (f"hang_seed={HANG_SEED}",)


def test_a_hung_model_turns_liveness_red_and_everyone_is_answered(start_slow: Any) -> None:
    with start_slow("--hang-seconds", "0.5", faults=HANGS) as server:
        url = server.url
        assert httpx.get(f"{url}/livez").status_code == 200

        def watch() -> None:
            until(lambda: get(url, "/livez")[0] == 503)

        hanging = [f"/generate?seed={HANG_SEED}", *["/generate?label=7"] * 8]
        for answer in at_once(url, hanging, meanwhile=watch):
            assert answer.status == 503
            assert json.loads(answer.body)["type"] == "/problems/not-ready"
            assert answer.headers["Retry-After"]
        late = httpx.post(f"{url}/generate?label=7")
        assert late.status_code == 503
        assert "hangs" in late.json()["detail"]
        assert httpx.get(f"{url}/readyz").status_code == 503
        assert httpx.get(f"{url}/metrics").status_code == 200
        assert server.stop() == 4  # and it does not wait for the model


def test_a_process_that_hangs_for_long_ends_by_itself(start_slow: Any) -> None:
    """Nobody may ask for its liveness: Docker alone does not restart what is unhealthy."""
    with start_slow("--hang-seconds", "0.5", faults=(*HANGS, "dead_s=1")) as server:
        assert httpx.post(f"{server.url}/generate?seed={HANG_SEED}", timeout=30).status_code == 503
        assert server.process.wait(30) == 4


def test_a_hang_that_blocks_the_event_loop_is_answered_and_ends_the_process(
    start_server: Any, tiny_store: Path, tmp_path: Path
) -> None:
    hung = tmp_path / "hung"
    program = ("-m", "tests.faulty_service", *HANGS, f"hung={hung}")
    options = ["--models-dir", str(tiny_store), "--engine", "onnx", "--workers", "1"]
    with start_server(*options, "--hang-seconds", "1", program=program) as server:
        url = server.url
        paths = [f"/generate?seed={HANG_SEED}", "/generate?label=7", "/generate?label=7&scale=2"]
        connections = [connect(url) for _ in range(5)]
        for connection in connections:
            connection.sendall(post("/generate?label=7"))
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        *asking, later, idle = connections
        server.process.send_signal(signal.SIGSTOP)  # so that all of it is read at once
        for connection, path in zip(asking, paths, strict=True):
            connection.sendall(post(path))
        server.process.send_signal(signal.SIGCONT)
        until(hung.exists)
        new, silent = connect(url), connect(url)
        for connection in (later, new):
            connection.sendall(post("/generate?label=7"))
        for connection in (*asking, later, new):
            answer = read(connection)
            assert answer.status == 503
            problem = json.loads(answer.body)
            assert problem["type"] == "/problems/not-ready"
            assert "hangs" in problem["detail"]
            assert answer.headers["Retry-After"]
            assert answer.headers["Connection"] == "close"
        assert server.process.wait(timeout=30) == 4
        for connection in (idle, silent):
            assert connection.recv(4096) == b"", "who asked nothing was answered"
        for connection in (*connections, new, silent):
            connection.close()
