"""What the supervisor does at SIGHUP: workers that do as little as a test needs, real processes."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.process.workers.test_supervisor import ROOT, end, lines, running
from tests.live_service import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks into /proc")

# ``supervise`` with workers that print their generation and process id.
RELOADED = """
loads = 0
def working(generation):
    def work(channel, place):
        print(generation, os.getpid(), os.getppid() == supervisor, flush=True)
        channel.send_ready(on_gpu=False)
        return serve_until_stopped(channel)
    return work
supervisor = os.getpid()
first = working("old")
"""


def reload(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGHUP)


def log_until(process: "subprocess.Popen[str]", text: str) -> str:
    """The log up to a line with this text."""
    assert process.stderr
    read = ""
    while text not in read:
        line = process.stderr.readline()
        assert line, f"{text!r} is not in {read!r}"
        read += line
    return read


def worker_lines(process: "subprocess.Popen[str]", count: int) -> list[list[str]]:
    return [line.split() for line in lines(process, count)]


def start(prepare: str, **more: object) -> str:
    options = "".join(f", {name}={value!r}" for name, value in more.items())
    return f"""{RELOADED}
{prepare}
Supervisor_options = dict(workers_on_gpu=2, stop_s=5.0, on_exit=lambda place: None,
    on_ready=lambda on_gpu: print("ready", flush=True), prepare=prepare{options})
import logging; logging.basicConfig(level="INFO", format="%(message)s")
sys.exit(Supervisor(bind("127.0.0.1", 0), 2, work=first, **Supervisor_options).run())
"""


def test_workers_are_exchanged_by_those_of_the_store_loaded_anew() -> None:
    with running(start("prepare = lambda: working('new')")) as process:
        before = [line for line in worker_lines(process, 3) if line != ["ready"]]
        for _ in range(2):  # the second comes from another process than the first
            reload(process)
            after = worker_lines(process, 2)
            assert [line[0] for line in after] == ["new", "new"]
            # The supervisor's children, as if it had forked them: it waits for them.
            until(lambda: all(parent(line[1]) == process.pid for line in after))  # noqa: B023
            until(lambda: not any(alive(line[1]) for line in before))  # noqa: B023
            before = after
        log_until(process, "workers are exchanged")
        rest, log = end(process)
        assert rest == ""  # not one worker more than is needed
        assert process.returncode == 0, log


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (
            "from app.errors import StartupError\n"
            "def prepare():\n    raise StartupError('broken.safetensors: truncated')",
            "broken.safetensors: truncated",
        ),
        ("def prepare():\n    os.kill(os.getpid(), signal.SIGSEGV)", "that loaded it ended"),
        ("prepare = lambda: (lambda channel, place: 3)", "the first worker with it ended"),
    ],
    ids=["refused", "crashes", "cannot-serve"],
)
def test_a_store_that_cannot_be_loaded_leaves_all_as_it_was(prepare: str, reason: str) -> None:
    with running(start(prepare)) as process:
        before = [line[1] for line in worker_lines(process, 3) if line != ["ready"]]
        reload(process)
        log = log_until(process, "not reloaded, what was served goes on")
        assert reason in log
        assert all(alive(pid) for pid in before)
        rest, _ = end(process)
        assert rest == ""
        assert process.returncode == 0


def test_a_reload_under_way_is_given_up_for_a_newer_one() -> None:
    prepare = "def prepare():\n    print('loading', flush=True)\n    time.sleep(60)"
    with running(start(prepare)) as process:
        worker_lines(process, 3)
        for _ in range(2):
            reload(process)
            assert lines(process, 1) == ["loading"]
        log_until(process, "it is to be loaded once more")
        end(process)
        assert process.returncode == 0


def test_a_closed_terminal_is_told_from_a_reload(tmp_path: Path) -> None:
    told = tmp_path / "told"
    program = f"""
import signal
from pathlib import Path
from app.process.hangup import terminal_has_closed
def hang_up(*_):
    Path({str(told)!r}).write_text(str(terminal_has_closed()))
    raise SystemExit
signal.signal(signal.SIGHUP, hang_up)
print(terminal_has_closed(), flush=True)
signal.pause()
"""
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", program])
    assert os.read(terminal, 100).split() == [b"False"]
    os.close(terminal)
    os.waitpid(pid, 0)
    assert told.read_text() == "True"


def parent(pid: str) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def test_a_stop_while_a_store_is_loaded_ends_all_though_workers_drain_longer() -> None:
    prepare = """
def first(channel, place):
    channel.send_ready(on_gpu=False)
    status = serve_until_stopped(channel)
    time.sleep(1)
    return status

def prepare():
    print('loading', flush=True)
    time.sleep(0.5)
    return working('new')
"""
    with running(start(prepare)) as process:
        assert lines(process, 1) == ["ready"]
        reload(process)
        assert lines(process, 1) == ["loading"]
        rest, log = end(process)
        assert "new" not in rest
        assert process.returncode == 0, log
