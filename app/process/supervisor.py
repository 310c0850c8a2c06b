"""The supervisor: it accepts connections, hands them to workers, and replaces workers that fail.

A connection goes to the worker that has fewest open: sockets that share a port (SO_REUSEPORT) are
chosen by a hash, and left a worker idle where connections were few. The supervisor answers nothing,
runs no model and has no thread, so it can fork at any time. Workers share the memory of what was
loaded before ``run``. Knows neither HTTP nor asyncio nor what a worker does. Unix only.

Long, since one loop waits for connections, workers and signals alike.
"""

import contextlib
import errno
import gc
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from app.fork import STOP_SIGNALS, fork
from app.process.balance import Load, least_connections
from app.process.channel import (
    CLOSED,
    CLOSING,
    FAILED,
    READY,
    READY_ON_GPU,
    SupervisorChannel,
    WorkerChannel,
    open_channel,
)
from app.process.exit_status import ExitStatus, from_wait

log = logging.getLogger(__name__)

SILENT_S = 15.0  # without a heartbeat: the event loop of the worker is blocked
_TICK_S = 0.5
_SUSPENDED_S = 5  # between two ticks: this process itself was suspended
_STEADY_S = 30  # a worker that lived so long did not fail because of its start
_MAX_DELAY_S = 10.0
_BACKLOG = 2048
_FORCED_S = 1.0  # that workers have to end after a second Ctrl-C
_ACCEPTS = 64  # connections accepted in a row, before workers are heard again


class Backoff:
    """When the next worker may start: later and later while workers fail soon after their start.

    ``next_start`` is a time on the clock of ``failed``; 0 = at once.
    """

    def __init__(self) -> None:
        self.next_start = 0.0
        self._failures = 0  # since a worker was steady

    def failed(self, started: float, now: float) -> None:
        """A worker failed.

        Args:
            started: When it was forked.
            now: When its failure became known; it may drain for long after that.
        """
        self._failures = 1 if now - started > _STEADY_S else self._failures + 1
        self.next_start = now + min(_MAX_DELAY_S, 0.1 * 2 ** min(self._failures - 1, 10))

    def could_not_fork(self, now: float) -> None:
        self.next_start = now + _MAX_DELAY_S


def places(workers: int) -> int:
    """How many of so many workers may live at a time, those among them that are being replaced and
    have not ended yet."""
    return 2 * workers + 2


@dataclass(eq=False, kw_only=True)
class Worker(Load):
    """What the supervisor knows of a worker; times are monotonic, in s."""

    pid: int
    place: int  # no other worker has it as long as this one lives
    channel: SupervisorChannel
    started: float
    ready: bool = False  # takes connections
    ending: bool = False  # was sent SIGTERM
    kill_at: float = float("inf")


@dataclass
class Supervisor:
    """Runs workers until SIGTERM, SIGINT or SIGHUP.

    Args:
        sockets: Bound, to listen on.
        workers: How many; their first message says whether they run on a GPU.
        workers_on_gpu: How many there.
        work: What a worker does with its channel, in its place; returns its exit status.
        stop_s: How long a worker may take to stop; then it is killed.
        on_ready: Called when the first worker can serve, with whether it runs on a GPU.
        on_exit: Called with the place of each worker that has ended.
        silent_s: A worker without a heartbeat for so long is replaced.
    """

    sockets: list[socket.socket]
    workers: int
    workers_on_gpu: int
    work: Callable[[WorkerChannel, int], int]
    stop_s: float
    on_ready: Callable[[bool], None]
    on_exit: Callable[[int], None]
    silent_s: float = SILENT_S
    _workers: list[Worker] = field(default_factory=list)
    _wanted: int = 1  # workers; until the first is ready, it alone
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _signals: list[int] = field(default_factory=list)
    _backoff: Backoff = field(default_factory=Backoff)
    _listening: bool = False
    _was_ready: bool = False
    _stopping: bool = False
    _forced: bool = False  # by a second SIGINT
    _status: int = 0
    _handed_over: int = 0
    _ticked: float = 0.0
    _accepted: socket.socket | None = None  # and not handed over yet

    def run(self) -> int:
        """The exit status: 0, or that of a worker that failed to start or to stop."""
        # What is loaded now stays shared: no worker's collector writes to it. Not collected before:
        # there is hardly any garbage yet, and looking for it would delay the start.
        gc.freeze()
        woken, waker = socket.socketpair()
        for end in (woken, waker):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno())
        for number in STOP_SIGNALS:
            signal.signal(number, lambda number, _: self._signals.append(number))
        signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the selector
        self._selector.register(woken, selectors.EVENT_READ)
        try:
            self._start()  # alone: it shows whether there is a GPU, and whether it can start at all
        except OSError as error:
            log.error("cannot start a worker: %s", error.strerror)
            self._status = 1
            self._stopping = True
        while self._workers or not self._stopping:
            for key, _ in self._selector.select(_TICK_S):
                if key.fileobj is woken:
                    with contextlib.suppress(BlockingIOError):
                        woken.recv(4096)
                elif isinstance(key.data, Worker):
                    self._hear(key.data)
                else:
                    self._accept(key.fileobj)  # type: ignore[arg-type]
            while self._signals:
                self._stop(self._signals.pop(0))
            self._reap()
            self._check()
            if self._accepted:
                self._hand_over()
        for number in STOP_SIGNALS:  # a late one is not to change the status
            signal.signal(number, signal.SIG_IGN)
        return self._status

    # Workers: started, heard, stopped, reaped.

    def _start(self) -> None:
        """Fork a worker.

        Raises:
            OSError: there may be no more processes or file descriptors, or no memory.
        """
        taken = {worker.place for worker in self._workers}
        most = places(max(self.workers, self.workers_on_gpu))
        free = [place for place in range(most) if place not in taken]
        if not free:
            raise OSError(errno.EAGAIN, "too many workers have not ended yet")
        place = free[0]
        ours, theirs = open_channel()

        def run() -> int:
            self._become_worker(ours)
            return self.work(theirs, place)

        try:
            pid = fork(run, "a worker")
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        now = time.monotonic()
        worker = Worker(pid=pid, place=place, channel=ours, started=now, heard=now)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _become_worker(self, ours: SupervisorChannel) -> None:
        """Close and undo, in a child, what is the supervisor's."""
        signal.set_wakeup_fd(-1)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        self._selector.close()
        ours.close()
        for worker in self._workers:
            worker.channel.close()
        for listener in self.sockets:
            listener.close()
        if self._accepted:  # left open here, it would outlive its end elsewhere
            self._accepted.close()

    def _hear(self, worker: Worker) -> None:
        """Act on a worker's messages."""
        try:
            messages = worker.channel.messages()
        except EOFError:  # ``_reap`` finds out how it ended
            self._close_channel(worker)
            worker.ready = False
            return
        worker.heard = time.monotonic()
        worker.open -= messages.count(CLOSED)
        if CLOSING in messages:
            worker.ready = False
            if not self._stopping or any(other.ready for other in self._workers):
                worker.channel.end()
        elif READY in messages or READY_ON_GPU in messages:
            worker.ready = not worker.ending
            if worker.ready and not self._was_ready:
                on_gpu = READY_ON_GPU in messages
                self._wanted = self.workers_on_gpu if on_gpu else self.workers
                self._listen(on_gpu)
        if FAILED in messages and not worker.ending:
            log.error("worker %d reports that it cannot go on; it is replaced", worker.pid)
            self._backoff.failed(worker.started, time.monotonic())
            self._end(worker)

    def _end(self, worker: Worker, ready: bool = False) -> None:
        """Send a worker SIGTERM.

        Args:
            worker: Which.
            ready: Hand connections to it until it is done: it answers that it is stopping.
        """
        worker.ending, worker.ready = True, worker.ready and ready
        worker.kill_at = time.monotonic() + self.stop_s
        os.kill(worker.pid, signal.SIGTERM)

    def _stop(self, number: int) -> None:
        """End all workers, and start none. A second SIGINT does not wait for what they do."""
        if self._stopping and number == signal.SIGINT:
            self._forced = True
            for worker in self._workers:
                os.kill(worker.pid, signal.SIGINT)
                worker.kill_at = min(worker.kill_at, time.monotonic() + _FORCED_S)
        self._stopping = True
        for worker in self._workers:
            if not worker.ending:
                self._end(worker, ready=True)

    def _reap(self) -> None:
        """Notice the workers that have ended."""
        for worker in list(self._workers):
            pid, code = os.waitpid(worker.pid, os.WNOHANG)
            if not pid:
                continue
            status = os.waitstatus_to_exitcode(code)
            self._workers.remove(worker)
            self._close_channel(worker)
            self.on_exit(worker.place)
            if worker.ending:
                # One that the signal itself ended had not begun to serve.
                expected = status in (0, *(-number for number in STOP_SIGNALS))
                if self._stopping and not expected and not self._forced:
                    self._status = from_wait(status)
                continue
            log.error("worker %d ended with status %d", worker.pid, status)
            if self._was_ready:
                self._backoff.failed(worker.started, time.monotonic())
            else:  # the next one would fail in the same way
                self._status = from_wait(status) or 1
                self._stopping = True

    def _close_channel(self, worker: Worker) -> None:
        if worker.channel.fileno() >= 0:
            self._selector.unregister(worker.channel)
            worker.channel.close()

    def _check(self) -> None:
        """Kill what does not answer or stop, start what is missing."""
        now = time.monotonic()
        if now - self._ticked > _SUSPENDED_S:
            for worker in self._workers:
                worker.heard = now
        self._ticked = now
        for worker in self._workers:
            if worker.ready and not worker.ending and now - worker.heard > self.silent_s:
                log.error("worker %d has not answered for %g s", worker.pid, self.silent_s)
                self._backoff.failed(worker.started, now)
                worker.ending, worker.ready, worker.kill_at = True, False, now
            if now >= worker.kill_at:
                os.kill(worker.pid, signal.SIGKILL)
        if self._stopping:
            if self._listening and not any(worker.ready for worker in self._workers):
                self._close_listeners()
            return
        if not self._was_ready or now < self._backoff.next_start:
            return
        if sum(not worker.ending for worker in self._workers) < self._wanted:
            try:
                self._start()
            except OSError as error:
                log.error("cannot start a worker: %s", error.strerror)
                self._backoff.could_not_fork(now)

    # Connections: listened for, accepted, handed over.

    def _listen(self, on_gpu: bool) -> None:
        """The first worker is ready."""
        self._was_ready = True
        for listener in self.sockets:
            try:
                listener.listen(_BACKLOG)
            except OSError as error:  # another process was faster
                log.error("cannot listen on %s: %s", listener.getsockname()[:2], error.strerror)
                self._status = ExitStatus.UNAVAILABLE
                self._stop(signal.SIGTERM)
                return
        for listener in self.sockets:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ)
        self._listening = True
        self.on_ready(on_gpu)

    def _close_listeners(self) -> None:
        """Have the kernel refuse new clients at once: nobody would answer them.

        Those that it has accepted already would be reset; they still go to the workers, which take
        them until they are told that no more come.
        """
        self._listening = False
        for worker in self._workers:
            worker.ready = worker.channel.fileno() >= 0
        for listener in self.sockets:
            self._selector.unregister(listener)
            for _ in range(_BACKLOG // _ACCEPTS):
                self._accept(listener)
            listener.close()
        for worker in self._workers:
            worker.ready = False
            worker.channel.end()

    def _accept(self, listener: socket.socket) -> None:
        """Accept and hand over, as long as a worker has room; other clients wait in the kernel."""
        for _ in range(_ACCEPTS):
            if self._accepted is None:
                if not any(worker.ready for worker in self._workers):
                    break
                try:
                    self._accepted, _ = listener.accept()
                except BlockingIOError:
                    return
                except OSError:  # the client is gone already, or no file descriptor is left
                    break
            if not self._hand_over():
                break
        else:
            return
        time.sleep(0.01)  # the selector would return at once

    def _hand_over(self) -> bool:
        """Give the accepted connection to a worker; False = none has room."""
        assert self._accepted
        ready = [worker for worker in self._workers if worker.ready]
        for worker in least_connections(ready, time.monotonic()):
            if worker.channel.hand_over(self._accepted):
                self._handed_over += 1
                worker.add(self._handed_over)
                self._accepted.close()
                self._accepted = None
                return True
        return False
