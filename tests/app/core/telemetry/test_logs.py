"""What is logged holds nobody up: pipes that nobody reads, floods of one statement, forks."""

import fcntl
import logging
import os
import queue
from collections.abc import Iterator

import pytest

from app.core.telemetry.logs import ONCE, LineWriter, LogHandler

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Reading and writing end of a pipe that takes a page."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield reading, writing
    for end in (reading, writing):
        os.close(end)


def read(descriptor: int, until: bytes) -> bytes:
    seen = b""
    while until not in seen:
        seen += os.read(descriptor, 65536)
    return seen


def logger_to(writer: LineWriter, clock: list[float]) -> logging.Logger:
    logger = logging.Logger("test")
    logger.addHandler(LogHandler(writer, lambda: clock[0]))
    return logger


def test_lines_are_written_whole_and_in_order(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], "the pipe")
    lines = [b"%d %b\n" % (i, b"y" * (i % 300)) for i in range(2000)]
    for line in lines:
        writer.write(line)
    assert read(pipe[0], lines[-1]) == b"".join(lines)
    assert writer.dropped == 0


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_the_lines_lost_are_told(
    pipe: tuple[int, int],
) -> None:
    writer = LineWriter(pipe[1], "the pipe", max_bytes=10_000)
    for _ in range(1000):
        writer.write(LINE)
    kept = 1000 - writer.dropped
    assert 100 <= kept <= 100 + 4096 // len(LINE) * 2  # what waits, and what the pipe took
    writer.flush(0.01)  # does not wait for the pipe either
    told = queue.SimpleQueue[str]()
    handler = logging.Handler()
    handler.emit = lambda record: told.put(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("app.core.telemetry.logs").addHandler(handler)
    try:
        assert len(read(pipe[0], LINE * kept)) == kept * len(LINE)
        said = told.get(timeout=30)
    finally:
        logging.getLogger("app.core.telemetry.logs").removeHandler(handler)
    assert f"{writer.dropped} lines were dropped: the pipe did not take them" in said


def test_lines_for_a_reader_that_has_gone_are_dropped() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    writer = LineWriter(writing, "the pipe")
    writer.write(LINE)
    writer.flush(30)
    assert writer.dropped == 1
    os.close(writing)


def test_a_closed_stream_is_no_error() -> None:
    LineWriter(None, "nothing").write(LINE)


def test_of_one_statement_a_minute_has_few_lines_and_the_next_says_how_many_more(
    pipe: tuple[int, int],
) -> None:
    clock = [0.0]
    logger = logger_to(LineWriter(pipe[1], "the pipe"), clock)
    for clock[0] in (0.0, 1.0, 59.0, 60.5):
        logger.warning("broken %s", clock[0], extra=ONCE)
    logger.warning("another")
    lines = read(pipe[0], b"another\n").decode().splitlines()
    assert [line.rpartition("test ")[2] for line in lines] == [
        "broken 0.0",
        "broken 60.5 (and 2 more like it before)",
        "another",
    ]


def test_a_child_writes_its_own_lines_and_not_its_parents(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], "the pipe")
    for _ in range(100):  # more than the pipe takes: some still wait
        writer.write(LINE)
    if not (child := os.fork()):
        writer.write(b"child\n")
        writer.flush(30)
        os._exit(writer.dropped)
    writer.write(b"parent\n")
    seen = b""
    while b"child\n" not in seen or b"parent\n" not in seen:
        seen += os.read(pipe[0], 4096)
    assert seen.count(LINE) == 100
    assert os.waitpid(child, 0)[1] == 0
