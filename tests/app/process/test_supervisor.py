"""Several processes behind one port: real processes, real sockets, real signals."""

import asyncio
import hashlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from app.process.server import _Server
from app.process.supervisor import Link, _Worker, bind, in_turn
from app.settings import Settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks into /proc")

ROOT = Path(__file__).parents[3]
HANG_SEED = 666
HANGS = f"""
import sys, time
from app.engines.engine import Engine
from app.engines.rows import Sample

honest = Engine.run

def run(self, lane, rows):
    if any(isinstance(row, Sample) and row.seed == {HANG_SEED} for row in rows):
        time.sleep(3600)
    return honest(self, lane, rows)

Engine.run = run
from app.__main__ import main
main(sys.argv[1:])
"""

# A tenth of a second for an image.
SLOW = """
import sys, time
from app.engines.engine import Engine

honest, probed = Engine.run, Engine.probe

def probe(self):
    found = probed(self)
    for lane, costs in found.costs.items():
        found.costs[lane] = [(size, seconds + 0.1 * size) for size, seconds in costs]
    return found

def slow(self, lane, rows):
    time.sleep(0.1 * len(rows))
    return honest(self, lane, rows)

Engine.run, Engine.probe = slow, probe
from app.__main__ import main
main(sys.argv[1:])
"""

LOSES = HANGS.replace(
    "time.sleep(3600)",
    "from app.engines.backend import DeviceLostError; raise DeviceLostError('the GPU fails')",
)


def workers_of(server: Any) -> list[int]:
    """Process ids of a service's workers."""
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def connections_of(server: Any) -> dict[int, int]:
    """How many of the open connections to the service each worker holds."""
    port = f":{urlsplit(server.url).port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == "01"}
    found = {}
    for pid in workers_of(server):
        with suppress(OSError):  # it has just ended
            fds = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
            found[pid] = len(established.intersection(fds))
    return found


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.02)


def metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(rf"{name}[{{ ]", line))


@pytest.fixture
def start_two(start_server: Any, tiny_store: Path) -> Any:
    @contextmanager
    def start(*arguments: str, program: Any = ("-m", "app")) -> Iterator[Any]:
        options = ["--models-dir", str(tiny_store), "--workers", "2", *arguments]
        with start_server(*options, program=program) as server:
            # Readiness is that of the first; each says in its turn that it takes connections.
            until(lambda: len(workers_of(server)) == 2)
            until(lambda: len(served_by(server)) == 2)
            yield server

    return start


def served_by(server: Any) -> set[int]:
    """The workers that get the next few connections."""
    with ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(httpx.Client(base_url=server.url))
            assert client.get("/livez").status_code == 200
        found = {pid for pid, count in connections_of(server).items() if count}
    until(lambda: not any(connections_of(server).values()))
    return found


def test_connections_are_spread_evenly_and_counts_are_summed(start_two: Any) -> None:
    with start_two() as server:
        requests = metric(server.url, "genserve_requests_total")
        with ExitStack() as stack:
            clients = [stack.enter_context(httpx.Client(base_url=server.url)) for _ in range(16)]
            answers = [client.post("/generate?label=7") for client in clients for _ in range(4)]
            assert {answer.status_code for answer in answers} == {200}
            assert list(connections_of(server).values()) == [8, 8]
            # Workers are forks of one process, and draw seeds of their own all the same.
            assert len({answer.headers["x-seed"] for answer in answers}) == 64
            # Those that end make room for the next ones.
            ended = clients[::2]
            for client in ended:
                client.close()
            until(lambda: sum(connections_of(server).values()) == 8)
            clients = [stack.enter_context(httpx.Client(base_url=server.url)) for _ in range(8)]
            for client in clients:
                assert client.get("/livez").status_code == 200
            assert list(connections_of(server).values()) == [8, 8]
        assert metric(server.url, "genserve_images_total") >= 64
        until(lambda: httpx.get(f"{server.url}/status").json()["processes"] == 2)
        assert metric(server.url, "genserve_requests_total") >= requests + 72
        assert server.stop() == 0


def handed(workers: list[_Worker], count: int, now: float) -> list[int]:
    """How many of ``count`` new connections each gets, as the supervisor counts."""
    before = [worker.open for worker in workers]
    for number in range(count):
        first = in_turn(workers, now)[0]
        first.open, first.last, first.recent = first.open + 1, number + 1, first.recent + 1
    return [worker.open - was for worker, was in zip(workers, before, strict=True)]


def test_after_a_crowd_has_left_one_worker_does_not_get_all_that_comes() -> None:
    with socket.socket() as end:
        workers = [_Worker(pid, end, 0.0, 0.0) for pid in (1, 2)]
        assert handed(workers, 256, 0.5) == [128, 128]
        workers[0].open = 4000  # has not yet told that they ended
        assert handed(workers, 256, 1.5) == [120, 136]
        workers[0].open, workers[1].open = 0, 10  # few: evened out at once
        assert handed(workers, 16, 2.4) == [13, 3]
        # One that is silent gets what it has less than the other, and no more.
        workers[0].open, workers[1].open, workers[1].heard = 100, 50, 9.0
        assert handed(workers, 80, 9.5) == [15, 65]


def test_a_crowd_is_served_spread_evenly_and_forgotten(start_two: Any) -> None:
    """More connections at once than fit between supervisor and worker, which stand still."""

    def crowd(url: str, count: int) -> list[socket.socket]:
        host, _, port = urlsplit(url).netloc.partition(":")
        found = [socket.create_connection((host, int(port)), timeout=60) for _ in range(count)]
        for connection in found:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
        return found

    with start_two() as server:
        for pid in workers_of(server):
            os.kill(pid, signal.SIGSTOP)
        connections = crowd(server.url, 700)
        time.sleep(0.5)
        for pid in workers_of(server):
            os.kill(pid, signal.SIGCONT)
        for connection in connections:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200"), "one was thrown away"
        for connection in connections:  # all at once: more ends than can be told at once
            connection.close()
        until(lambda: not any(connections_of(server).values()))
        time.sleep(1.5)  # a beat: what had no room is told
        connections = crowd(server.url, 40)
        for connection in connections:
            assert connection.recv(4096)
        assert sorted(connections_of(server).values()) == [20, 20]
        for connection in connections:
            connection.close()


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(start_two: Any) -> None:
    with start_two() as server:
        images = metric(server.url, "genserve_images_total")
        assert httpx.post(f"{server.url}/generate?label=7&n=8").status_code == 200
        victim, other = workers_of(server)
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in workers_of(server))
        for _ in range(20):  # each a connection of its own; none goes to the dead
            assert httpx.post(f"{server.url}/generate?label=7").status_code == 200
        until(lambda: len(workers_of(server)) == 2)
        until(lambda: len(served_by(server)) == 2)
        assert other in workers_of(server)
        assert metric(server.url, "genserve_images_total") >= images + 28  # the dead one's too
        assert server.stop() == 0


COUNTS = """
import os, sys
from app.engines.engine import Engine

honest = Engine.probe

def probe(self):
    print(os.getpid(), file=open(sys.argv[-1], "a"))
    return honest(self)

Engine.probe = probe
from app.__main__ import main
main(sys.argv[1:-1])
"""


def test_one_probe_is_enough_for_all_workers_and_for_those_that_replace_them(
    start_two: Any, tmp_path: Path
) -> None:
    probes = tmp_path / "probes"
    with start_two("--engine", "onnx", str(probes), program=["-c", COUNTS]) as server:
        first = httpx.post(f"{server.url}/generate?label=7&seed=1").content
        for pid in workers_of(server):
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(workers_of(server)) == 2 and len(served_by(server)) == 2)
        assert httpx.post(f"{server.url}/generate?label=7&seed=1").content == first
        assert len(probes.read_text().split()) == 1


@pytest.mark.parametrize(
    ("program", "told"), [(HANGS, "hangs"), (LOSES, "must be restarted")], ids=["hangs", "lost"]
)
def test_a_worker_that_cannot_go_on_answers_and_is_replaced(
    start_two: Any, program: str, told: str
) -> None:
    with start_two("--hang-seconds", "0.5", program=["-c", program]) as server:
        before = set(workers_of(server))
        answer = httpx.post(f"{server.url}/generate?seed={HANG_SEED}", timeout=30)
        assert answer.status_code == 503
        assert told in answer.json()["detail"]
        assert answer.headers["retry-after"]
        until(lambda: len(before & set(workers_of(server))) == 1)
        until(lambda: len(workers_of(server)) == 2)
        until(lambda: len(served_by(server)) == 2)
        for _ in range(10):
            assert httpx.post(f"{server.url}/generate?label=7").status_code == 200
        assert server.stop() == 0


def test_a_worker_that_stands_still_is_replaced(start_two: Any) -> None:
    """Its event loop does not turn: it cannot say so, but it says nothing."""
    with start_two() as server:
        stuck = workers_of(server)[0]
        os.kill(stuck, signal.SIGSTOP)
        until(lambda: stuck not in workers_of(server))
        until(lambda: len(workers_of(server)) == 2)
        until(lambda: len(served_by(server)) == 2)


def test_workers_do_not_outlive_their_supervisor(start_two: Any) -> None:
    with start_two() as server:
        pids = workers_of(server)
        server.process.kill()
        until(lambda: not any(alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_sigterm_finishes_what_was_accepted_by_each_worker(start_two: Any) -> None:
    async def run(url: str, stop: Callable[[], object]) -> list[int]:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            asked = [asyncio.create_task(client.post("/generate?n=64&scale=16")) for _ in range(12)]
            while not any(task.done() for task in asked):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            stop()
            return [(await task).status_code for task in asked]

    with start_two() as server:
        statuses = asyncio.run(run(server.url, server.process.terminate))
        assert set(statuses) <= {200, 503}  # 503: had not reached its worker
        assert statuses.count(200) >= 2
        assert server.process.wait(timeout=30) == 0


def test_ten_thousand_requests_of_all_kinds_give_one_image_for_each_seed(shipped: Any) -> None:
    """On every worker, whatever else is in the batch: mixed models, labels, n and orders."""
    shuffled = random.Random(0)
    kinds = ["model=mnist-gan-v", "model=mnist-vae-v", *(f"label={label}" for label in range(10))]
    names = {
        card["name"][:-1]: card["name"]
        for card in httpx.get(f"{shipped.url}/models").json()["models"]
    }
    queries = []
    for _ in range(10_000):
        kind, n = shuffled.choice(kinds), shuffled.choice([1, 1, 1, 2, 3, 8])
        kind = re.sub(r"mnist-\w+-v$", lambda match: names[match.group()], kind)
        queries.append(f"{kind}&n={n}&seed={shuffled.randrange(40)}")

    async def ask(todo: Iterator[str], seen: dict[str, set[str]]) -> None:
        host = urlsplit(shipped.url)
        reader, writer = await asyncio.open_connection(host.hostname, host.port)
        for query in todo:
            writer.write(f"POST /generate?{query} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = re.search(rb"content-length: (\d+)", head)
            assert length
            body = await reader.readexactly(int(length.group(1)))
            seen.setdefault(query, set()).add(hashlib.sha256(body).hexdigest())
        writer.close()

    async def run() -> dict[str, set[str]]:
        seen: dict[str, set[str]] = {}
        todo = iter(queries)
        await asyncio.gather(*(ask(todo, seen) for _ in range(64)))
        return seen

    seen = asyncio.run(run())
    assert sum(queries.count(query) > 1 for query in list(seen)[:50]) > 25  # it could have differed
    assert [query for query, digests in seen.items() if len(digests) > 1] == []


def test_a_service_that_cannot_start_says_so_once_and_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app", "--port", "0", "--workers", "2", "--models-dir"]
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("genserve: no checkpoint to serve") == 1


def test_of_two_services_on_one_port_one_says_so(start_server: Any, tiny_store: Path) -> None:
    with start_server("--models-dir", str(tiny_store)) as server:
        port = str(urlsplit(server.url).port)
        command = [sys.executable, "-m", "app", "--models-dir", str(tiny_store), "--port", port]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 3
        assert "in use" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after_s", [0.5, 1.2, 1.9, 2.6])
def test_a_stop_during_the_start_ends_it_in_order(
    tiny_store: Path, number: signal.Signals, after_s: float
) -> None:
    """To the whole process group, as Ctrl-C does; wherever the start has come to by then."""
    command = [sys.executable, "-m", "app", "--port", "0", "--models-dir", str(tiny_store)]
    with subprocess.Popen(
        [*command, "--workers", "2"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell lets what it runs in the background ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        time.sleep(after_s)
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=30)
    # Before the first line of ours has run, the signal ends Python itself.
    assert process.returncode in (0, -number), errors
    assert "Traceback" not in errors or "KeyboardInterrupt" in errors


def test_one_stop_that_a_worker_is_told_twice_is_no_order_to_drop_its_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C reaches it from the terminal and, as SIGTERM, from the supervisor."""
    now = 100.0
    monkeypatch.setattr("app.process.server.time.monotonic", lambda: now)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        app = FastAPI()
        config = uvicorn.Config(app)
        server = _Server(config, app, Settings(), lambda: None, Link(ours))
        server.handle_exit(signal.SIGTERM, None)
        server.handle_exit(signal.SIGINT, None)
        assert server.should_exit
        assert not server.force_exit
        now += 1
        server.handle_exit(signal.SIGINT, None)  # the second Ctrl-C, which does not wait
        assert server.force_exit


def test_a_stop_in_the_midst_of_a_native_import_leaves_nothing(tmp_path: Path) -> None:
    """An exception there would come out as the import's own."""
    program = (
        "import signal, sys, app.__main__ as main\n"
        f"main._end_at_signals(lambda: open({str(tmp_path / 'tidied')!r}, 'w').close())\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "finally:\n"
        "    print('an exception')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "tidied").exists()


def test_a_taken_port_is_told_before_anything_is_loaded() -> None:
    (taken,) = bind("127.0.0.1", 0)
    with taken:
        taken.listen()
        command = [sys.executable, "-m", "app", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr.startswith("genserve: cannot listen on 127.0.0.1 port ")
    assert "in use" in done.stderr


def test_workers_that_cannot_go_on_are_replaced_later_and_later_also_while_they_drain() -> None:
    code = """
import signal, sys, time
from app.process.supervisor import Supervisor, bind
def work(link):
    print("up", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: None)
    link.tell_ready(on_gpu=False)
    link.tell_beat(False)
    while True:
        time.sleep(1)
supervisor = Supervisor(bind("127.0.0.1", 0), 1, work, 2.0, lambda: None, lambda pid: None)
supervisor.run()
print(supervisor._deaths)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert [process.stdout.readline() for _ in range(4)] == ["up\n"] * 4
        process.terminate()
        *more, deaths = process.stdout.read().split()
        # Each start follows one more failure, and none comes without.
        assert 3 <= int(deaths) <= 4 + len(more)


def test_a_port_that_another_takes_during_the_start_is_reported_once() -> None:
    """Both may bind it, and only one may listen."""
    code = """
import sys
from app.process.supervisor import Supervisor, bind
def work(link):
    link.tell_ready(on_gpu=False)
    try:
        while True:
            list(link.connections())
    except EOFError:
        return 0
ours = bind("127.0.0.1", 0)
(other,) = bind(*ours[0].getsockname())
other.listen()
sys.exit(Supervisor(ours, 2, work, 5.0, lambda: print("ready"), lambda pid: None).run())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("cannot listen on ('127.0.0.1', ") == 1
    assert "Traceback" not in done.stderr


def test_a_worker_that_cannot_start_is_not_started_again() -> None:
    code = """
import sys
from app.process.supervisor import Supervisor, bind
def work(link):
    print("up", flush=True)
    return 7
sys.exit(Supervisor(bind("127.0.0.1", 0), 2, work, 5.0, lambda: None, lambda pid: None).run())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 7
    assert done.stdout == "up\n"


def test_a_second_ctrl_c_does_not_wait_for_what_was_accepted(start_two: Any) -> None:
    with start_two("--max-n", "600", program=["-c", SLOW]) as server:
        host, _, port = urlsplit(server.url).netloc.partition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /generate?n=600 HTTP/1.1\r\nHost: test\r\n\r\n")
            until(lambda: metric(server.url, "genserve_requests_in_flight") == 1)
            server.process.send_signal(signal.SIGINT)
            until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
            time.sleep(0.6)  # one Ctrl-C may reach a worker twice, so it counts none that follows
            server.process.send_signal(signal.SIGINT)
            server.process.wait(timeout=15)  # of 20


def test_on_a_gpu_a_worker_that_ended_is_followed_by_one() -> None:
    code = """
import os, select, sys, time
from app.process import supervisor
supervisor.default_workers = lambda: 3
said = []
def work(link):
    print("up", flush=True)
    time.sleep(2 if said else 0)  # as a model loads
    link.tell_ready(on_gpu=True)
    ends = time.monotonic() + 0.3 if not said else float("inf")
    while time.monotonic() < ends:
        link.tell_beat(True)
        if select.select([link], [], [], 0.1)[0]:
            try:
                list(link.connections())
            except EOFError:
                return 0
            return 0
    os._exit(1)
ended = supervisor.Supervisor(
    supervisor.bind("127.0.0.1", 0), None, work, 5.0, lambda: None, said.append
)
sys.exit(ended.run())
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        said = [process.stdout.readline() for _ in range(2)]  # the first, and the one in its place
        time.sleep(4)  # others would have come by now
        process.terminate()
        said.append(process.stdout.read())
    assert said == ["up\n", "up\n", ""]
