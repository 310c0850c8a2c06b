"""Log lines that hold nobody up: bounded in memory, written by a thread, few of one kind.

What a stranger causes must neither fill a disk nor stop an event loop. A pipe that nobody reads, a
terminal that is stopped and a slow disk all hold up whoever writes to them; here that is a thread
which holds no lock while it writes.
"""

import contextlib
import logging
import os
import select
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import ClassVar, TextIO

log = logging.getLogger(__name__)

FORMAT = "%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"
_MAX_BYTES = 2**20  # of lines that wait for the writer: some 5,000
_BLOCK = 4096  # bytes of one write: whole in a pipe that several processes share (PIPE_BUF)
_FLUSH_S = 1.0  # at most, at the end of a process
_PER_MINUTE = 60  # lines of one statement, unless it says otherwise
ONCE = {"per_minute": 1}  # ``extra`` of a statement that any client can reach


class LineWriter:
    """Writes lines to a file descriptor; ``write`` never waits, and drops what has no room.

    Safe in several threads, and in children that are forked meanwhile: what waits is written by the
    parent alone.

    Args:
        descriptor: Of an open file; it stays open. None = lines are dropped without being counted.
        name: For the line that says how many were dropped.
        max_bytes: Of lines that wait.
    """

    _all: ClassVar["weakref.WeakSet[LineWriter]"] = weakref.WeakSet()

    def __init__(self, descriptor: int | None, name: str, max_bytes: int = _MAX_BYTES) -> None:
        self._descriptor = descriptor
        self._name = name
        self._max_bytes = max_bytes
        self._reset()
        LineWriter._all.add(self)

    def _reset(self) -> None:
        self.dropped = 0  # lines, in this process
        self._reported = 0  # of these
        self._lines: deque[bytes] = deque()
        self._bytes = 0  # of lines, with those that are being written
        self._changed = threading.Condition()
        self._started = False

    def write(self, line: bytes) -> None:
        """Have a line, with its end, written soon."""
        if self._descriptor is None:
            return
        with self._changed:
            if self._bytes + len(line) > self._max_bytes:
                self.dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            if self._started:
                self._changed.notify_all()
                return
            self._started = True
        threading.Thread(target=self._run, name=f"writer of {self._name}", daemon=True).start()

    def flush(self, seconds: float = _FLUSH_S) -> None:
        """Wait until all is written, but no longer than so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._bytes, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                block = [self._lines.popleft()]
                size = len(block[0])
                while self._lines and size + len(self._lines[0]) <= _BLOCK:
                    size += len(self._lines[0])
                    block.append(self._lines.popleft())
            written = self._put(b"".join(block))
            with self._changed:
                self._bytes -= size
                if not written:
                    self.dropped += len(block)
                # Told when there is room again, lest that line be dropped, too.
                unreported = 0 if self._lines or not written else self.dropped - self._reported
                self._reported += unreported
                self._changed.notify_all()
            if unreported:
                log.warning("%d lines were dropped: %s did not take them", unreported, self._name)

    def _put(self, data: bytes) -> bool:
        """Whether all of it could be written; waits for as long as it takes."""
        assert self._descriptor is not None
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # whoever gave us the file made it so
                select.select((), (self._descriptor,), ())
            except OSError:  # nobody can read it any more, or the disk is full
                return False
        return True

    @classmethod
    def forked(cls) -> None:
        """In a new child: locks are in an unknown state, and the lines are the parent's."""
        for writer in cls._all:
            writer._reset()


def dropped_lines() -> int:
    """Lines that this process has dropped, of all its writers."""
    return sum(writer.dropped for writer in list(LineWriter._all))


class LogHandler(logging.Handler):
    """Writes records through a ``LineWriter``, but few of one statement in a minute.

    A record's attribute ``per_minute`` says how many. The statement's first record in a later
    minute says how many were left out.

    Args:
        writer: To where.
        clock: In s, monotonic.
    """

    def __init__(self, writer: LineWriter, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(FORMAT))
        self._writer = writer
        self._clock = clock
        self._periods: dict[tuple[str, int], tuple[float, int]] = {}  # by statement: since, records

    def emit(self, record: logging.LogRecord) -> None:
        statement, now = (record.pathname, record.lineno), self._clock()
        limit: int = getattr(record, "per_minute", _PER_MINUTE)
        since, records = self._periods.get(statement, (now, 0))
        left_out = 0
        if now - since >= 60:
            since, records, left_out = now, 0, max(0, records - limit)
        self._periods[statement] = since, records + 1
        if records >= limit:
            return
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        more = f" (and {left_out} more like it before)" if left_out else ""
        self._writer.write(f"{line}{more}\n".encode(errors="backslashreplace"))

    def flush(self) -> None:
        self._writer.flush()


def configure(level: str) -> None:
    """Have this process, and those forked from it, log to standard error.

    Args:
        level: Of the service's own lines, such as "info". Libraries log from INFO on at most: some
            would write parts of an upload below it.
    """
    handler = LogHandler(LineWriter(_descriptor(sys.stderr), "standard error"))
    wanted = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(wanted, logging.INFO), handlers=[handler], force=True)
    for name in ("app", "training"):
        logging.getLogger(name).setLevel(wanted)
    logging.captureWarnings(True)


def output_writer() -> LineWriter:
    """Writes to standard output."""
    return LineWriter(_descriptor(sys.stdout), "standard output")


def _descriptor(stream: TextIO | None) -> int | None:
    """None = it was closed when the process started: its number may be another file's by now."""
    with contextlib.suppress(OSError, ValueError):
        return stream.fileno() if stream else None
    return None


os.register_at_fork(after_in_child=LineWriter.forked)
