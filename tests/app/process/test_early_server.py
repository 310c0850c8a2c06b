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

ROOT = Path(__file__).parents[2]
SLOW_SEED, HANG_SEED = 666, 667
# The service, whose import of FastAPI waits for a file, in whichever process, and two of whose
# seeds: one for another file, one for ever. How far it is, files tell.
GATED = f"""
import sys, time
from pathlib import Path

folder = Path(sys.argv.pop(1))

class Gate:
    def find_spec(self, name, path=None, target=None):
        if name == "fastapi":
            (folder / "imports").touch()
            while not (folder / "gate").exists():
                time.sleep(0.01)

sys.meta_path.insert(0, Gate())
import app.__main__
app.__main__._SOON_S = 60  # however slow the machine is

from app.engines.engine import Engine, Sample

honest = Engine.run

def run(self, lane, rows):
    for row in rows:
        if isinstance(row, Sample) and row.seed in ({SLOW_SEED}, {HANG_SEED}):
            (folder / "runs").touch()
            while row.seed == {HANG_SEED} or not (folder / "release").exists():
                time.sleep(0.01)
    return honest(self, lane, rows)

Engine.run = run
"""
SERVES = GATED + "app.__main__.main(sys.argv[1:])"
# The same, whose workers cannot start.
FAILS = (
    GATED
    + """
import app.core.lifecycle
from app.errors import StartupError

running = app.core.lifecycle.running

def failing(*given, on_loop=True):
    if on_loop:
        raise StartupError("nothing works")
    return running(*given, on_loop=False)

app.core.lifecycle.running = failing
app.__main__.main(sys.argv[1:])
"""
)
# The same, whose port another listens on before it does.
LATE = (
    GATED
    + """
from app.process.supervisor import bind

send_ahead = app.__main__._send_ahead

def late(settings, sockets, *rest):
    taken.extend(bind(*sockets[0].getsockname()))
    taken[0].listen()
    return send_ahead(settings, sockets, *rest)

taken = []
app.__main__._send_ahead = late
app.__main__.main(sys.argv[1:])
"""
)
ASKS = b"POST /generate?label=7&seed=%d HTTP/1.1\r\nhost: localhost\r\n\r\n"


def until(true: Callable[[], Any]) -> None:
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.02)


class Early:
    """A service that has not imported FastAPI yet."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, folder: Path) -> None:
        self.process, self.port, self._folder = process, port, folder
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
        except (ConnectionRefusedError, ConnectionResetError):  # reset: it has just ended to
            return False
        return True

    def serves(self) -> int:
        """Wait until the forerunner listens; its process id."""
        until(self.listens)
        (pid,) = self.children()
        return pid

    def imports(self) -> bool:
        """Whether all before FastAPI is imported."""
        return (self._folder / "imports").exists()

    def ask(self, seed: int) -> socket.socket:
        """A connection on which one of the two seeds is asked for, when a model works on it."""
        connection = self.connect()
        connection.sendall(ASKS % seed)
        until((self._folder / "runs").exists)
        return connection

    def release(self) -> None:
        """End the work on the slow seed."""
        (self._folder / "release").touch()

    def go_on(self) -> None:
        (self._folder / "gate").touch()

    def ready(self) -> None:
        """Let it go on, and wait until its workers are there."""
        before = self.children()
        self.go_on()
        assert self.process.stdout
        assert "ready" in self.process.stdout.readline()
        until(lambda: len(set(self.children()).difference(before)) == 2)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        """Have it end well; its log."""
        self.process.send_signal(number)
        assert self.process.wait(timeout=30) == 0
        return told(self.process)


@pytest.fixture
def start(tiny_store: Path, tmp_path: Path) -> Any:
    @contextmanager
    def started(*options: str, program: str = SERVES) -> Iterator[Early]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-c", program, str(tmp_path), "--port", str(port)]
        with subprocess.Popen(
            [*command, "--workers", "2", "--models-dir", str(tiny_store), *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"TMPDIR": str(tmp_path)},
            # A shell lets what it runs in the background ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process:
            try:
                yield Early(process, port, tmp_path)
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


def unread(connection: socket.socket) -> int:
    """Bytes that have come at the other end, on this machine, and are not read yet."""
    here, there = (f":{end[1]:04X}" for end in (connection.getsockname(), connection.getpeername()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (queues,) = [r[4] for r in rows if r[1].endswith(there) and r[2].endswith(here)]
    return int(queues.partition(":")[2], 16)


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}/exe").exists()


def test_plain_requests_are_answered_before_fastapi_is_there_and_with_the_same_bytes(
    start: Any, tmp_path: Path
) -> None:
    with start() as early:
        forerunner = early.serves()
        with early.connect() as connection:
            connection.sendall(ASKS % 5)
            status, headers, body = answer(connection)
        assert status == 200
        assert headers["connection"] == "close"
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", headers["date"])
        assert int(headers["content-length"]) == len(body)
        sixty = httpx.get(f"{early.url}/generate?n=60&format=npy&seed=1")
        assert sixty.status_code == 200
        wrong = httpx.post(f"{early.url}/generate?label=99", headers={"connection": "close"})
        assert wrong.status_code == 422
        assert "99" in wrong.json()["detail"]
        assert early.children() == [forerunner]
        assert list(tmp_path.glob(f"genserve-*/gauge_live*_{forerunner}.db"))
        early.ready()
        until(lambda: forerunner not in early.children())
        until(lambda: not list(tmp_path.glob(f"genserve-*/gauge_live*_{forerunner}.db")))

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
        assert "ERROR" not in early.stop()


def test_what_is_not_plain_is_read_by_a_worker(start: Any) -> None:
    with start() as early:
        early.serves()
        silent, begun, other, left = (early.connect() for _ in range(4))
        with silent, begun, other:
            begun.sendall((ASKS % 5)[:20])
            other.sendall(b"GET /status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            left.sendall(b"GET /status HTTP/1.1\r\n")
            left.close()
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


def test_who_sends_no_more_or_too_much_is_answered_as_well(start: Any) -> None:
    with start() as early:
        early.serves()
        with early.ask(SLOW_SEED) as ended, early.connect() as eager:
            ended.shutdown(socket.SHUT_WR)
            eager.sendall(ASKS % 5)
            until(lambda: not unread(eager))
            eager.sendall(ASKS % 6)
            early.release()
            assert answer(ended)[0] == answer(eager)[0] == 200


def test_who_leaves_while_he_waits_leaves_nothing_behind(start: Any) -> None:
    with start() as early:
        forerunner = early.serves()

        def sockets() -> int:
            links = [os.readlink(link) for link in Path(f"/proc/{forerunner}/fd").iterdir()]
            return sum(link.startswith("socket:") for link in links)

        before = sockets()
        for connection in [early.ask(SLOW_SEED) for _ in range(10)]:
            until(lambda: not unread(connection))  # noqa: B023
            connection.close()
        early.release()
        until(lambda: sockets() <= before)  # it may have counted one that came to see
        assert "Traceback" not in early.stop()


def test_who_does_not_read_his_answer_holds_up_nothing(start: Any) -> None:
    with start("--max-n", "4096", "--stall-seconds", "1") as early:
        forerunner = early.serves()
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", early.port))
            connection.sendall((ASKS % 10_000).replace(b"?", b"?n=4096&format=json&"))
            assert connection.recv(12) == b"HTTP/1.1 200"
            early.ready()
            until(lambda: gone(forerunner))
            log = early.stop()
        assert "not all is answered" not in log  # it has ended by itself


def test_what_it_works_on_when_it_is_relieved_is_answered_and_no_more(start: Any) -> None:
    with start() as early:
        forerunner = early.serves()
        with early.connect() as begun, early.ask(SLOW_SEED) as connection:
            begun.sendall((ASKS % 5)[:20])
            early.ready()
            begun.sendall((ASKS % 5)[20:-2] + b"connection: close\r\n\r\n")
            assert answer(begun)[0] == 200  # and nobody else has it open
            for _ in range(4):  # by workers
                assert httpx.post(f"{early.url}/generate?label=7", timeout=1).status_code == 200
            early.process.send_signal(signal.SIGTERM)
            until(lambda: not early.listens())  # while it still works
            assert not gone(forerunner)
            early.release()
            assert answer(connection)[0] == 200
        assert early.process.wait(timeout=30) == 0
        assert "ERROR" not in told(early.process)


@pytest.mark.parametrize("whom", ["process", "group"])
def test_a_stop_before_there_are_workers_lets_it_finish(
    start: Any, tmp_path: Path, whom: str
) -> None:
    with start() as early:
        early.serves()
        with early.ask(SLOW_SEED) as connection:
            if whom == "group":
                os.killpg(early.process.pid, signal.SIGINT)
            else:
                early.process.send_signal(signal.SIGTERM)
            until(lambda: not early.listens())
            early.release()
            assert answer(connection)[0] == 200
        assert early.process.wait(timeout=30) == 0
        assert not early.listens()
        assert "Traceback" not in told(early.process)
        assert not list(tmp_path.glob("genserve-*"))


def test_a_stop_does_not_wait_for_a_model_that_hangs(start: Any) -> None:
    with start("--drain-seconds", "0", "--hang-seconds", "300") as early:
        forerunner = early.serves()
        with early.ask(HANG_SEED):
            early.stop()
            until(lambda: gone(forerunner))


def test_a_second_stop_does_not_wait_at_all(start: Any, tmp_path: Path) -> None:
    with start("--hang-seconds", "300") as early:
        forerunner = early.serves()
        with early.ask(HANG_SEED):
            early.process.send_signal(signal.SIGINT)
            until(lambda: not early.listens())  # the first has been noticed
            began = time.monotonic()
            early.stop(signal.SIGINT)
            until(lambda: gone(forerunner))
            assert time.monotonic() - began < 10  # of 25
        assert not list(tmp_path.glob("genserve-*"))


def test_a_second_stop_does_not_wait_for_it_when_there_are_workers(start: Any) -> None:
    with start("--hang-seconds", "300") as early:
        forerunner = early.serves()
        with early.ask(HANG_SEED):
            early.ready()
            early.process.send_signal(signal.SIGINT)
            until(lambda: early.children() == [forerunner])
            early.stop(signal.SIGINT)


def test_it_does_not_outlive_its_supervisor(start: Any) -> None:
    with start() as early:
        forerunner = early.serves()
        with early.ask(HANG_SEED):
            early.process.kill()
            until(lambda: not early.listens())
            until(lambda: gone(forerunner))


@pytest.mark.parametrize("during", ["the imports", "the first worker's start"])
def test_its_death_delays_nobody(start: Any, during: str) -> None:
    with start() as early:
        forerunner = early.serves()
        if during == "the imports":
            os.kill(forerunner, signal.SIGKILL)
            early.ready()
        else:
            with early.ask(HANG_SEED):
                early.ready()
                os.kill(forerunner, signal.SIGKILL)
        assert httpx.post(f"{early.url}/generate?label=7").status_code == 200
        log = early.stop()
        assert log.count("the process that served first ended with status -9") == 1


def test_where_no_worker_can_start_it_ends_with_them(start: Any) -> None:
    with start("--drain-seconds", "0", "--hang-seconds", "300", program=FAILS) as early:
        forerunner = early.serves()
        with early.ask(HANG_SEED):
            early.go_on()
            assert early.process.wait(timeout=30) == 3
        assert gone(forerunner)
        log = told(early.process)
        assert log.count("nothing works") == 1


def test_a_port_that_another_took_is_told_once(start: Any) -> None:
    with start(program=LATE) as early:
        early.go_on()
        assert early.process.wait(timeout=30) == 3
        log = told(early.process)
    assert log.count("cannot listen") == 1
    assert "Traceback" not in log


def test_of_many_that_wait_it_holds_some_and_all_are_served(start: Any) -> None:
    most = 64
    with start("--max-connections", str(most)) as early:
        early.serves()
        waiting = [early.connect() for _ in range(most + 20)]
        late = waiting[-1]
        late.sendall((ASKS % 5)[:-2] + b"connection: close\r\n\r\n")
        late.settimeout(0.5)
        with pytest.raises(TimeoutError):
            late.recv(1)
        late.settimeout(60)
        for connection in waiting[:40]:  # a worker has no more room than that
            connection.close()
        for connection in waiting[40:-1]:
            connection.sendall(b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        early.ready()
        for connection in waiting[40:]:
            with connection:
                assert answer(connection)[0] == 200


def test_with_keys_nothing_is_answered_before_the_application_is_there(
    start: Any, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("k" * 40)
    with start("--api-keys-file", str(keys)) as early:
        until(early.imports)  # what would listen has been sent by then
        time.sleep(1)
        assert not early.listens()
        early.ready()
        assert httpx.post(f"{early.url}/generate?label=7").status_code == 401
