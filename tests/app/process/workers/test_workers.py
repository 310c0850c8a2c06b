"""The service with two workers behind one port: real processes, real sockets, real signals."""

import asyncio
import hashlib
import os
import random
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.live_service import connect, counted, get, post, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks into /proc")

SEED = 666  # with which a model fails


def workers_of(server: Any) -> list[int]:
    """Process ids of a service's workers."""
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def tcp_rows(url: str) -> list[list[str]]:
    """Lines of /proc/net/tcp for the service's port."""
    port = f":{urlsplit(url).port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row for row in rows if row[1].endswith(port)]


def connections_of(server: Any) -> dict[int, int]:
    """How many of the open connections to the service each worker holds."""
    established = {f"socket:[{row[9]}]" for row in tcp_rows(server.url) if row[3] == "01"}
    found = {}
    for pid in workers_of(server):
        with suppress(OSError):  # it has just ended
            fds = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
            found[pid] = len(established.intersection(fds))
    return found


def waiting_to_be_accepted(server: Any) -> int:
    """Connections that only the kernel knows."""
    (row,) = [row for row in tcp_rows(server.url) if row[3] == "0A"]
    return int(row[4].partition(":")[2], 16)


def serving(server: Any) -> set[int]:
    """The workers that get the next few connections."""
    with ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(connect(server.url))
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        found = {pid for pid, count in connections_of(server).items() if count}
    until(lambda: not any(connections_of(server).values()))
    return found


@pytest.fixture
def start_two(start_server: Any, tiny_store: Path) -> Any:
    @contextmanager
    def start(*arguments: str, faults: tuple[str, ...] = ()) -> Iterator[Any]:
        options = ["--models-dir", str(tiny_store), "--workers", "2", *arguments]
        program = ("-m", "tests.faulty_service", *faults) if faults else ("-m", "app")
        with start_server(*options, program=program) as server:
            # Readiness is that of the first; the second reports later that it takes connections.
            until(lambda: len(workers_of(server)) == 2)
            until(lambda: len(serving(server)) == 2)
            yield server

    return start


def test_connections_are_spread_evenly_and_counts_are_summed(start_two: Any) -> None:
    with start_two() as server:
        requests = counted(server.url, "genserve_requests_total")
        with ExitStack() as stack:
            clients = [stack.enter_context(httpx.Client(base_url=server.url)) for _ in range(16)]
            answers = [client.post("/generate?label=7") for client in clients for _ in range(4)]
            assert {answer.status_code for answer in answers} == {200}
            assert list(connections_of(server).values()) == [8, 8]
            # Workers are forks of one process, and draw seeds of their own all the same.
            assert len({answer.headers["x-seed"] for answer in answers}) == 64
            # Those that end make room for the next ones.
            for client in clients[::2]:
                client.close()
            until(lambda: sum(connections_of(server).values()) == 8)
            clients = [stack.enter_context(httpx.Client(base_url=server.url)) for _ in range(8)]
            for client in clients:
                assert client.get("/livez").status_code == 200
            assert list(connections_of(server).values()) == [8, 8]
        assert counted(server.url, "genserve_images_total") >= 64
        until(lambda: httpx.get(f"{server.url}/status").json()["processes"] == 2)
        assert counted(server.url, "genserve_requests_total") >= requests + 72
        assert server.stop() == 0


def test_a_crowd_is_served_spread_evenly_and_forgotten(start_two: Any) -> None:
    """More connections at once than fit between supervisor and worker, which stand still."""

    def crowd(count: int) -> list[socket.socket]:
        found = [connect(server.url) for _ in range(count)]
        for connection in found:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
        return found

    def spread() -> list[int]:
        """How the workers share 40 connections."""
        connections = crowd(40)
        for connection in connections:
            assert connection.recv(4096)
        shares = sorted(connections_of(server).values())
        for connection in connections:
            connection.close()
        until(lambda: not any(connections_of(server).values()))
        return shares

    with start_two() as server:
        for pid in workers_of(server):
            os.kill(pid, signal.SIGSTOP)
        connections = crowd(700)
        until(lambda: waiting_to_be_accepted(server) > 0)  # no worker has room for more
        for pid in workers_of(server):
            os.kill(pid, signal.SIGCONT)
        for connection in connections:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200"), "one was thrown away"
        for connection in connections:  # all at once: more ends than can be reported at once
            connection.close()
        until(lambda: not any(connections_of(server).values()))
        until(lambda: spread() == [20, 20])  # from the next heartbeat on


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(start_two: Any) -> None:
    with start_two() as server:
        images = counted(server.url, "genserve_images_total")
        assert httpx.post(f"{server.url}/generate?label=7&n=8").status_code == 200
        victim, other = workers_of(server)
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in workers_of(server))
        for _ in range(20):  # each a connection of its own; none goes to the dead
            assert httpx.post(f"{server.url}/generate?label=7").status_code == 200
        until(lambda: len(workers_of(server)) == 2)
        until(lambda: len(serving(server)) == 2)
        assert other in workers_of(server)
        # Those of the dead one too.
        assert counted(server.url, "genserve_images_total") >= images + 28
        assert server.stop() == 0


def test_one_probe_is_enough_for_all_workers_and_for_those_that_replace_them(
    start_two: Any, tmp_path: Path
) -> None:
    probes = tmp_path / "probes"
    with start_two("--engine", "onnx", faults=(f"probes={probes}",)) as server:
        first = httpx.post(f"{server.url}/generate?label=7&seed=1").content
        killed = workers_of(server)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not set(killed) & set(workers_of(server)))
        until(lambda: len(workers_of(server)) == 2)
        until(lambda: len(serving(server)) == 2)
        assert httpx.post(f"{server.url}/generate?label=7&seed=1").content == first
        probed = probes.read_text().split()
        assert "tiny-cgan-v1" in probed
        assert len(probed) == len(set(probed))  # each model once


@pytest.mark.parametrize(
    ("fault", "says"), [("hang_seed", "hangs"), ("lost_seed", "must be restarted")]
)
def test_a_worker_that_cannot_go_on_answers_and_is_replaced(
    start_two: Any, fault: str, says: str
) -> None:
    with start_two("--hang-seconds", "0.5", faults=(f"{fault}={SEED}",)) as server:
        before = set(workers_of(server))
        answer = httpx.post(f"{server.url}/generate?seed={SEED}", timeout=30)
        assert answer.status_code == 503
        assert says in answer.json()["detail"]
        assert answer.headers["retry-after"]
        until(lambda: len(before & set(workers_of(server))) == 1)
        until(lambda: len(workers_of(server)) == 2)
        until(lambda: len(serving(server)) == 2)
        for _ in range(10):
            assert httpx.post(f"{server.url}/generate?label=7").status_code == 200
        assert server.stop() == 0


def test_a_suspended_worker_is_replaced(start_two: Any) -> None:
    """Its event loop does not turn: it cannot report that, but it sends no heartbeat."""
    with start_two(faults=("silent_s=3",)) as server:
        stuck = workers_of(server)[0]
        os.kill(stuck, signal.SIGSTOP)
        until(lambda: stuck not in workers_of(server))
        until(lambda: len(workers_of(server)) == 2)
        until(lambda: len(serving(server)) == 2)


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


def test_sigterm_finishes_what_each_worker_accepted(start_two: Any) -> None:
    async def run(url: str, stop: Callable[[], object]) -> list[int]:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            tasks = [asyncio.create_task(client.post("/generate?n=64&scale=16")) for _ in range(12)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            stop()
            return [(await task).status_code for task in tasks]

    with start_two() as server:
        statuses = asyncio.run(run(server.url, server.process.terminate))
        assert set(statuses) <= {200, 503}  # 503: had not reached its worker
        assert statuses.count(200) >= 2
        assert server.process.wait(timeout=30) == 0


def test_a_second_ctrl_c_does_not_wait_for_what_was_accepted(start_two: Any) -> None:
    with (
        start_two("--max-n", "600", faults=("row_s=0.1",)) as server,
        connect(server.url) as connection,
    ):
        connection.sendall(post("/generate?n=600"))
        until(lambda: counted(server.url, "genserve_requests_in_flight") == 1)
        server.process.send_signal(signal.SIGINT)
        until(lambda: get(server.url, "/readyz")[0] == 503)

        def ended() -> bool:
            """Again and again: for half a second a worker takes another SIGINT for the same one."""
            server.process.send_signal(signal.SIGINT)
            return server.process.poll() is not None

        until(ended, within_s=15)  # of 60


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
