"""More work than the service can do, and a model that hangs: real processes, real sockets.

The model is slowed to a known rate, so that the numbers do not depend on the machine.
"""

import http.client
import json
import re
import signal
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

ROW_S = 0.01  # the slow model's time for an image: 100 a second
HANG_SEED = 666

SLOW = f"""
import sys, time
from app.engines.engine import Engine
from app.engines.rows import Sample

honest, probed = Engine.run, Engine.probe

def probe(self):
    found = probed(self)
    for lane, costs in found.costs.items():
        found.costs[lane] = [(size, seconds + {ROW_S} * size) for size, seconds in costs]
    return found

def slow(self, lane, rows):
    if any(isinstance(row, Sample) and row.seed == {HANG_SEED} for row in rows):
        time.sleep(3600)
    time.sleep({ROW_S} * len(rows))
    return honest(self, lane, rows)

Engine.run, Engine.probe = slow, probe
from app.__main__ import main
main(sys.argv[1:])
"""


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float  # since it was asked


def connect(url: str, source: str = "") -> socket.socket:
    host, _, port = urlsplit(url).netloc.partition(":")
    return socket.create_connection((host, int(port)), timeout=60, source_address=(source, 0))


def post(path: str, **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: test", *lines, "", ""]).encode()


def at_once(
    url: str, paths: list[str], meanwhile: Callable[[], object] = lambda: None
) -> list[Answer]:
    """POST to all paths at the same time; each answer is read when it comes."""

    def read(connection: socket.socket) -> Answer:
        with connection:
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            body = answer.read()
            return Answer(answer.status, answer.headers, body, time.monotonic() - started)

    connections = [connect(url) for _ in paths]
    with ThreadPoolExecutor(len(paths)) as threads:
        started = time.monotonic()
        for connection, path in zip(connections, paths, strict=True):
            connection.sendall(post(path))
        answers = [threads.submit(read, connection) for connection in connections]
        meanwhile()
        return [answer.result() for answer in answers]


def get(url: str, path: str) -> tuple[int, str]:
    """Status and text, in a fraction of the time that httpx takes to make a client."""
    with connect(url) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read().decode("latin-1")


def counted(url: str, name: str, having: str = "") -> float:
    """A metric, summed over its labels."""
    lines = get(url, "/metrics")[1].splitlines()
    found = [line for line in lines if re.match(rf"{name}[{{ ]", line) and having in line]
    return sum(float(line.split()[-1]) for line in found)


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not true():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def start_slow(start_server: Any, tiny_store: Path) -> Callable[..., Any]:
    def start(*arguments: str) -> Any:
        options = ["--models-dir", str(tiny_store), "--max-batch", "16", "--workers", "1"]
        return start_server(*options, *arguments, program=["-c", SLOW])

    return start


@pytest.fixture(scope="module")
def slow(start_slow: Any) -> Iterator[str]:
    """The address of a service that makes 100 images a second and lets nobody wait for 1 s."""
    with start_slow("--max-queue-ms", "1000") as server:
        yield server.url


def test_what_is_too_much_is_refused_and_the_rest_is_served_as_ever(slow: str) -> None:
    """Three seconds' work at once, twice: a third is accepted, and the rest is told when."""
    path = "/generate?model=tiny-cgan-v1&label=7"
    health: list[int] = []

    def ask_for_health() -> None:
        for _ in range(5):
            health.append(get(slow, "/livez")[0])
            health.append(get(slow, "/readyz")[0])

    for _ in range(2):
        images = counted(slow, "genserve_images_total", "tiny-cgan")
        refusals = counted(slow, "genserve_refused_requests_total", "tiny-cgan")
        answers = at_once(slow, [path] * 300, meanwhile=ask_for_health)
        served = [answer for answer in answers if answer.status == 200]
        refused = [answer for answer in answers if answer.status == 503]
        assert len(served) + len(refused) == 300
        assert len(served) >= 60
        assert len(refused) >= 60
        for answer in refused:
            told = json.loads(answer.body)
            assert told["type"] == "/problems/overloaded"
            assert int(answer.headers["Retry-After"]) == told["retry_after"] >= 1
        # The last one served has waited for a second; an endless queue would take three or more
        # on an idle machine, and this one may be busy.
        assert max(answer.seconds for answer in served) < 20
        # Nothing was computed for those refused. Readiness has its own images, at most one a round.
        extra = counted(slow, "genserve_images_total", "tiny-cgan") - images - len(served)
        assert 0 <= extra <= 5
        assert counted(slow, "genserve_refused_requests_total", "tiny-cgan") - refusals >= len(
            refused
        )
    assert set(health) == {200}  # being busy is not being ill


def test_a_deadline_ends_a_request_and_what_is_left_of_it_is_not_computed(slow: str) -> None:
    images = counted(slow, "genserve_images_total", "tiny-gan")
    path = f"{slow}/generate?model=tiny-gan-v1&n=64"
    answer = httpx.post(path, headers={"X-Timeout-Ms": "250"})  # 64 images take 640 ms
    assert answer.status_code == 504
    assert answer.json()["type"] == "/problems/deadline-exceeded"
    until(lambda: counted(slow, "genserve_queued_images") == 0)
    assert counted(slow, "genserve_dropped_images_total", 'reason="expired"') >= 16
    assert httpx.post(path, headers={"X-Timeout-Ms": "20000"}).status_code == 200
    assert counted(slow, "genserve_images_total", "tiny-gan") - images <= 64 + 48


def test_a_deadline_that_cannot_be_met_is_refused_at_once(slow: str) -> None:
    def ask() -> None:
        until(lambda: counted(slow, "genserve_queued_images") > 0)
        answer = httpx.post(f"{slow}/generate?n=16", headers={"X-Timeout-Ms": "20"})
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/overloaded"
        assert int(answer.headers["Retry-After"]) >= 1

    large = ["/generate?n=64"] * 2
    assert [answer.status for answer in at_once(slow, large, meanwhile=ask)] == [200, 200]
    assert counted(slow, "genserve_refused_requests_total", 'reason="deadline"') >= 1


def test_clients_that_leave_while_queued_never_reach_the_model(slow: str) -> None:
    dropped = counted(slow, "genserve_dropped_images_total", 'reason="left"')
    images = counted(slow, "genserve_images_total", "tiny-vae")

    def leave() -> None:
        until(lambda: counted(slow, "genserve_queued_images") > 0)
        connections = [connect(slow) for _ in range(40)]
        for connection in connections:
            connection.sendall(post("/generate?model=tiny-vae-v1"))
        for connection in connections:
            connection.close()

    at_once(slow, ["/generate?model=tiny-gan-v1&n=64"] * 2, meanwhile=leave)
    until(lambda: counted(slow, "genserve_requests_in_flight") == 0)
    dropped = counted(slow, "genserve_dropped_images_total", 'reason="left"') - dropped
    images = counted(slow, "genserve_images_total", "tiny-vae") - images
    assert dropped >= 10
    assert images + dropped <= 40


def test_a_large_request_does_not_hold_up_single_ones(slow: str) -> None:
    waiting: list[float] = []

    def ask() -> None:
        until(lambda: counted(slow, "genserve_queued_images") > 0)
        assert httpx.post(f"{slow}/generate?label=1").status_code == 200
        waiting.append(counted(slow, "genserve_queued_images"))

    for answer in at_once(slow, ["/generate?n=64&label=2"] * 2, meanwhile=ask):
        assert answer.status == 200
    assert waiting[0] > 0  # it was answered while images asked for before it still waited


def one(url: str, path: str, source: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """POST from an address of this machine: status, headers and body."""
    with connect(url, source) as connection:
        connection.sendall(post(path))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.headers, answer.read()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a second address on the loopback")
def test_one_client_that_floods_the_service_does_not_keep_another_from_being_served(
    slow: str,
) -> None:
    """150 at a time ask for single images without end, where 100 a second are made."""
    path, over = "/generate?model=tiny-cgan-v1&label=7", threading.Event()
    flood: list[tuple[int, http.client.HTTPMessage, bytes]] = []
    before: list[int] = []  # images that the flood got while the other waited for one

    def ask_without_end() -> None:
        while not over.is_set():
            flood.append(one(slow, path, "127.0.0.1"))
            over.wait(0.05)

    def served() -> int:
        return sum(status == 200 for status, _, _ in list(flood))

    with ThreadPoolExecutor(150) as threads:
        asking = [threads.submit(ask_without_end) for _ in range(150)]
        try:
            until(lambda: any(status != 200 for status, _, _ in list(flood)))
            for _ in range(10):
                seen = served()
                status, _, _ = one(slow, path, "127.0.0.2")
                assert status == 200
                before.append(served() - seen)
        finally:
            over.set()
        for task in asking:
            task.result()
    # What ran when it came, its own call, and another for threads that read late; not the 100 of
    # the flood that wait at any time.
    assert sorted(before)[5] <= 48
    refused = [answer for answer in flood if answer[0] != 200]
    assert {status for status, _, _ in refused} <= {429, 503}
    told = [(headers, json.loads(body)) for status, headers, body in refused if status == 429]
    assert told
    for headers, body in told:
        assert body["type"] == "/problems/over-share"
        assert int(headers["Retry-After"]) == body["retry_after"] >= 1
        assert re.fullmatch(r'"share";q=[1-9][0-9]*;qu="images"', headers["RateLimit-Policy"])
        assert headers["RateLimit"] == f'"share";r=0;t={body["retry_after"]}'
    assert counted(slow, "genserve_refused_requests_total", 'reason="share"') == len(told)


def test_a_hung_model_turns_liveness_red_and_everyone_is_answered(start_slow: Any) -> None:
    with start_slow("--hang-seconds", "0.5") as server:
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


SOON = SLOW.replace(
    "from app.__main__",
    "import app.process.server; app.process.server._DEAD_LOOKS = 1\nfrom app.__main__",
)


def test_a_process_that_hangs_for_long_ends_by_itself(start_server: Any, tiny_store: Path) -> None:
    """Nobody may ask for its liveness: Docker alone does not."""
    options = ["--models-dir", str(tiny_store), "--workers", "1", "--hang-seconds", "0.5"]
    with start_server(*options, program=["-c", SOON]) as server:
        assert httpx.post(f"{server.url}/generate?seed={HANG_SEED}", timeout=30).status_code == 503
        assert server.process.wait(30) == 4


QUICK = SLOW.replace("Engine.probe = slow, probe", "Engine.probe = slow, probed")  # for its probe


def test_a_hang_that_holds_up_the_event_loop_is_answered_and_ends_the_process(
    start_server: Any, tiny_store: Path
) -> None:
    options = ["--models-dir", str(tiny_store), "--engine", "onnx", "--workers", "1"]
    with start_server(*options, "--hang-seconds", "1", program=["-c", QUICK]) as server:
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
        time.sleep(0.3)  # it hangs
        new, silent = connect(url), connect(url)
        for connection in (later, new):
            connection.sendall(post("/generate?label=7"))
        for connection in (*asking, later, new):
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 503
            problem = json.loads(answer.read())
            assert problem["type"] == "/problems/not-ready"
            assert "hangs" in problem["detail"]
            assert answer.headers["Retry-After"]
            assert answer.headers["Connection"] == "close"
        assert server.process.wait(timeout=30) == 4
        for connection in (idle, silent):
            assert connection.recv(4096) == b"", "who asked nothing was answered"
        for connection in (*connections, new, silent):
            connection.close()


def test_a_drain_is_told_at_once_and_finishes_what_was_accepted(start_slow: Any) -> None:
    with start_slow("--max-queue-ms", "60000") as server:
        url = server.url

        def stop() -> None:
            until(lambda: counted(url, "genserve_requests_in_flight") == 4)
            server.process.send_signal(signal.SIGTERM)
            # New connections, while the accepted work is being done: 256 images take 2.5 s.
            status, told = get(url, "/readyz")
            assert status == 503
            assert "stopping" in told
            assert get(url, "/livez")[0] == 200
            until(lambda: get(url, "/generate?label=7")[0] == 503)

        answers = at_once(url, ["/generate?n=64"] * 4, meanwhile=stop)
        assert [answer.status for answer in answers] == [200] * 4
        assert server.process.wait(timeout=30) == 0


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
    until(lambda: idle_for_a_call(slow))
    stopped = counted(slow, "genserve_images_total", "tiny-cgan")
    assert stopped - images <= 16 * 8
    time.sleep(0.5)  # in which it would make 50 more
    assert counted(slow, "genserve_images_total", "tiny-cgan") == stopped


def idle_for_a_call(url: str) -> bool:
    before = counted(url, "genserve_images_total")
    time.sleep(16 * ROW_S * 2)
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
            assert arrays["seeds"][-1] == 60_000
    else:
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert len(archive.namelist()) == 60_001
            assert archive.read("manifest.csv").count(b"\n") == 60_001
