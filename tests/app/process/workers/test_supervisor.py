"""The supervisor and workers that do as little as a test needs: real processes and signals."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.process.workers.worker import Backoff
from tests.live_service import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks into /proc")

ROOT = Path(__file__).parents[4]
# What the programs below have in common. Each worker prints its process id when it starts.
COMMON = """
import os, select, signal, sys, time
from app.process.sockets import bind
from app.process.workers.supervisor import Supervisor

def supervise(work, workers, sockets=None, **more):
    def say_and_work(channel, place):
        print(os.getpid(), flush=True)
        return work(channel)

    given = {"workers_on_gpu": workers, "stop_s": 5.0, "on_exit": lambda place: None}
    given["on_ready"] = lambda on_gpu: print("ready", flush=True)
    sockets = sockets or bind("127.0.0.1", 0)
    sys.exit(Supervisor(sockets, workers, work=say_and_work, **(given | more)).run())

def serve_until_stopped(channel, beats=True):
    stopped = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: stopped.append(True))
    while not stopped:
        if beats:
            channel.send_heartbeat(True)
        time.sleep(0.1)
    return 0
"""


@contextmanager
def running(program: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", COMMON + program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def lines(process: "subprocess.Popen[str]", count: int) -> list[str]:
    assert process.stdout
    return [process.stdout.readline().strip() for _ in range(count)]


def end(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """SIGTERM; what it still prints, and its log."""
    process.terminate()
    return process.communicate(timeout=30)


def test_a_worker_that_fails_often_is_replaced_later_and_later() -> None:
    backoff, now, delays = Backoff(), 100.0, []
    for _ in range(9):
        backoff.failed(started=now - 1, now=now)
        delays.append(backoff.next_start - now)
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])
    backoff.failed(started=now - 60, now=now)  # it was steady
    assert backoff.next_start - now == pytest.approx(0.1)
    backoff.could_not_fork(now)
    assert backoff.next_start - now == 10


def test_workers_that_cannot_go_on_are_replaced_while_they_drain() -> None:
    program = """
def work(channel):
    signal.signal(signal.SIGTERM, lambda *_: None)
    channel.send_ready(on_gpu=False)
    channel.send_heartbeat(False)
    while True:
        time.sleep(1)

supervise(work, 1, stop_s=60.0)
"""
    with running(program) as process:
        first, ready, *others = lines(process, 4)
        assert ready == "ready"
        for pid in (first, *others):  # none has ended
            os.kill(int(pid), signal.SIGKILL)
        end(process)


def test_a_silent_worker_is_replaced() -> None:
    program = """
def work(channel):
    channel.send_ready(on_gpu=False)
    return serve_until_stopped(channel, beats=False)

supervise(work, 1, silent_s=0.5)
"""
    with running(program) as process:
        first, _, second = lines(process, 3)
        assert not Path(f"/proc/{first}").exists()
        assert Path(f"/proc/{second}").exists()
        _, log = end(process)
        assert f"worker {first} has not answered for 0.5 s" in log


def test_a_worker_that_ends_is_replaced_by_one_alone_on_a_gpu() -> None:
    program = """
ended = []

def work(channel):
    if ended:
        time.sleep(60)  # loading its model
    channel.send_ready(on_gpu=True)
    return 1

supervise(work, 3, workers_on_gpu=1, on_exit=ended.append, stop_s=0.1)
"""
    with running(program) as process:
        assert lines(process, 2)[1] == "ready"
        second = lines(process, 1)
        with pytest.raises(subprocess.TimeoutExpired):  # two ticks, in which others would come
            process.communicate(timeout=1.2)
        assert end(process)[0].split()[3:] == []
        assert second


def test_workers_are_as_many_as_wanted_when_the_first_is_ready_on_a_cpu() -> None:
    program = """
def work(channel):
    channel.send_ready(on_gpu=False)
    return serve_until_stopped(channel)

supervise(work, 3, workers_on_gpu=1)
"""
    with running(program) as process:
        assert len(set(lines(process, 4))) == 4
        assert end(process) == ("", "")
        assert process.returncode == 0


def test_a_port_that_another_takes_during_the_start_is_reported_once() -> None:
    """Both may bind it, and only one may listen."""
    program = """
def work(channel):
    channel.send_ready(on_gpu=False)
    return serve_until_stopped(channel)

sockets = bind("127.0.0.1", 0)
(other,) = bind(*sockets[0].getsockname())
other.listen()
supervise(work, 2, sockets)
"""
    with running(program) as process:
        output, log = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "ready" not in output
    assert log.count("cannot listen on ('127.0.0.1', ") == 1
    assert "Traceback" not in log


def test_a_worker_that_cannot_start_is_not_started_again() -> None:
    with running("supervise(lambda channel: 7, 2)") as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 7
    assert len(output.split()) == 1


def test_a_worker_that_does_not_stop_in_time_is_killed() -> None:
    program = """
def work(channel):
    signal.signal(signal.SIGTERM, lambda *_: None)
    channel.send_ready(on_gpu=False)
    while True:
        channel.send_heartbeat(True)
        time.sleep(0.1)

supervise(work, 1, stop_s=0.2)
"""
    with running(program) as process:
        pid, _ = lines(process, 2)
        end(process)
        assert process.returncode == 128 + signal.SIGKILL
        until(lambda: not Path(f"/proc/{pid}").exists())
