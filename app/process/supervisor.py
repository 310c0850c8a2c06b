"""One process a core: a supervisor that listens, and workers that serve the connections it gives
them.

The supervisor accepts each connection and passes its file descriptor to the worker that has fewest
open (sockets that share a port are spread by a hash, and left a worker idle where connections were
few). It answers nothing itself, runs no model and has no thread, so it can fork a worker at any
time: when one has ended, does not answer, or says that it cannot go on. What was made before it
runs, its workers share. Knows neither HTTP nor asyncio nor what a worker does. Unix only.
"""

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from app.process.fork import NO_DESCRIPTOR, STOPS, fork
from app.process.resources import default_workers, memory_shortage

log = logging.getLogger(__name__)

_QUIET_S = 2.5  # without a word from a worker, which has a beat a second
_CATCH_UP = 16  # connections a second, by which one worker may get more than another
# What a worker tells, one byte each.
_READY, _READY_ON_GPU, _BEAT, _FAILED, _CLOSED, _CLOSING = b"r", b"g", b"b", b"f", b"c", b"d"
_TICK_S = 0.5
_SILENT_S = 15  # without a beat: the event loop of the worker stands still
_PAUSED_S = 5  # between two looks: it was this process that stood still
_STEADY_S = 30  # a worker that lived so long did not die of its start
_MOST_DELAY_S = 10.0

UNAVAILABLE_STATUS = 3  # nothing to serve, no such device, or the port is taken


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of ``host``; they do not listen yet.

    Raises:
        OSError: an address is not this machine's, or the port is taken.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    chosen = port
    for family, kind, protocol, _, address in dict.fromkeys(found):
        bound = socket.socket(family, kind, protocol)
        sockets.append(bound)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted ones inherit it
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address[0], chosen, *address[2:]))
        chosen = bound.getsockname()[1]  # port 0 is one port, the same for all addresses
    return sockets


class Link:
    """A worker's end of its connection to the supervisor."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._untold = bytearray()

    def fileno(self) -> int:
        return self._end.fileno()

    def connections(self) -> Iterator[socket.socket]:
        """What was handed over since the last call.

        Raises:
            EOFError: the supervisor is gone.
        """
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._end, 1, 1)
            except BlockingIOError:
                return
            except OSError as error:
                raise EOFError from error
            if not data:
                raise EOFError
            if not fds:  # this process may open no more; the kernel has closed it
                log.error(NO_DESCRIPTOR)
                self.tell_closed()
            for fd in fds:
                yield socket.socket(fileno=fd)

    def tell_ready(self, on_gpu: bool) -> None:
        """Requests can be served."""
        self._tell(_READY_ON_GPU if on_gpu else _READY)

    def tell_beat(self, alive: bool) -> None:
        """The event loop turns; whether this process can go on."""
        self._tell(_BEAT if alive else _FAILED)

    def tell_closed(self) -> None:
        """A connection that was handed over has ended."""
        self._tell(_CLOSED)

    def tell_closing(self) -> None:
        """No connection is taken any more."""
        self._tell(_CLOSING)

    def _tell(self, what: bytes) -> None:
        """Send it, or keep it until the next one if there is no room: nothing may get lost, for
        the supervisor counts."""
        self._untold += what
        # A broken pipe: it is gone, and the reader sees that.
        with contextlib.suppress(OSError):
            del self._untold[: self._end.send(self._untold)]


@dataclass(eq=False)
class _Worker:
    """The supervisor's idea of a worker; times on the monotonic clock."""

    pid: int
    end: socket.socket
    started: float
    heard: float
    ready: bool = False  # takes connections
    ending: bool = False  # was told to stop
    kill_at: float = float("inf")
    open: int = 0  # connections handed over and not yet closed
    last: int = 0  # number of the last one
    second: int = 0  # of the clock, in which the last one was handed over
    recent: int = 0  # in that second


def in_turn(workers: list[_Worker], now: float) -> list[_Worker]:
    """Workers by who is to get the next connection: the one that has fewest.

    But of what comes within a second nobody gets over _CATCH_UP more than another that is heard
    of. When thousands of connections end, the workers tell so at different times, and what comes
    just then would all go to one of them, and stay there.
    """
    for worker in workers:
        if worker.second != int(now):
            worker.second, worker.recent = int(now), 0
    fewest = min((worker.open - worker.recent for worker in workers), default=0)

    def place(worker: _Worker) -> tuple[int, int]:
        more = worker.open - worker.recent - fewest  # than the other had, before this second
        if now - worker.heard < _QUIET_S:  # else it stands still: what it has does not end
            more = min(more, _CATCH_UP)
        return worker.recent + more, worker.last

    return sorted(workers, key=place)


@dataclass
class Supervisor:
    """Runs workers until SIGTERM or SIGINT.

    Args:
        sockets: Bound, to listen on.
        wanted: How many workers; None = one a core, but on a GPU one.
        work: What a forked worker does with its link; returns its exit status.
        grace_s: How long a worker that was told to stop may take.
        ready: Called when the first worker can serve.
        ended: Called with the process id of each worker that has ended.
    """

    sockets: list[socket.socket]
    wanted: int | None
    work: Callable[[Link], int]
    grace_s: float
    ready: Callable[[], None]
    ended: Callable[[int], None]
    _workers: list[_Worker] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _signals: list[int] = field(default_factory=list)
    _listening: bool = False
    _was_ready: bool = False
    _stopping: bool = False
    _status: int = 0
    _handed: int = 0
    _deaths: int = 0  # since a worker was steady
    _start_at: float = 0.0
    _watched: float = 0.0
    _waiting: socket.socket | None = None  # accepted, and not handed over yet

    def run(self) -> int:
        """The exit status: 0, or of a worker that failed to start or to stop well."""
        # What is loaded now stays shared: no worker's collector writes to it. Not collected before:
        # there is hardly any garbage yet, and to look for it delays a start (docs/log.md).
        gc.freeze()
        woken, waker = socket.socketpair()
        for end in (woken, waker):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno())
        for number in STOPS:
            signal.signal(number, lambda number, _: self._signals.append(number))
        signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the selector
        self._selector.register(woken, selectors.EVENT_READ)
        try:
            self._start()  # the first tells whether there is a GPU, and whether it can start at all
        except OSError as error:
            log.error("cannot start a worker: %s", error.strerror)
            self._status = 1
            self._stop()
        while self._workers or not self._stopping:
            for key, _ in self._selector.select(_TICK_S):
                if key.fileobj is woken:
                    with contextlib.suppress(BlockingIOError):
                        woken.recv(4096)
                elif isinstance(key.data, _Worker):
                    self._hear(key.data)
                else:
                    self._accept(key.fileobj)  # type: ignore[arg-type]
            while self._signals:
                self._signal(self._signals.pop(0))
            self._reap()
            self._watch()
            if self._waiting:
                self._hand_over()
        for number in STOPS:  # a late one is not to change the status
            signal.signal(number, signal.SIG_IGN)
        return self._status

    def _start(self) -> None:
        """Fork a worker.

        Raises:
            OSError: there may be no more processes or file descriptors, or no memory.
        """
        ours, theirs = socket.socketpair()

        def run() -> int:
            self._become_worker(ours)
            return self.work(Link(theirs))

        try:
            pid = fork(run, "a worker")
        except OSError:
            ours.close()
            theirs.close()
            raise
        theirs.close()
        ours.setblocking(False)
        now = time.monotonic()
        worker = _Worker(pid, ours, now, now)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _become_worker(self, ours: socket.socket) -> None:
        """Let go of what is the supervisor's."""
        signal.set_wakeup_fd(-1)
        for number in (*STOPS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        self._selector.close()
        for end in (ours, *self.sockets, *(worker.end for worker in self._workers)):
            end.close()
        if self._waiting:  # a client's: open here as well, it would outlive its end elsewhere
            self._waiting.close()

    def _hear(self, worker: _Worker) -> None:
        """Read what a worker tells."""
        try:
            told = worker.end.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            told = b""
        if not told:  # it ends; ``_reap`` sees how
            self._selector.unregister(worker.end)
            worker.end.close()
            worker.ready = False
            return
        worker.heard = time.monotonic()
        worker.open -= told.count(_CLOSED)
        if _CLOSING in told:
            worker.ready = False
        elif _READY in told or _READY_ON_GPU in told:
            worker.ready = not worker.ending
            if self.wanted is None:  # known from now on, also when this worker is gone
                self.wanted = 1 if _READY_ON_GPU in told else default_workers()
                if _READY in told and (said := memory_shortage()):
                    log.info(said)
            if worker.ready and not self._was_ready:
                self._listen()
        if _FAILED in told and not worker.ending:
            log.error("worker %d says that it cannot go on; it is replaced", worker.pid)
            self._fail(worker)
            self._end(worker)

    def _listen(self) -> None:
        """The first worker is ready."""
        self._was_ready = True
        for listener in self.sockets:
            try:
                listener.listen(2048)
            except OSError as error:  # another process was faster
                log.error("cannot listen on %s: %s", listener.getsockname()[:2], error.strerror)
                self._status = UNAVAILABLE_STATUS
                self._signal(signal.SIGTERM)
                return
        for listener in self.sockets:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ)
        self._listening = True
        self.ready()

    def _accept(self, listener: socket.socket) -> None:
        """Take connections and hand them over, as long as a worker takes them; the others wait in
        the kernel."""
        for _ in range(64):
            if self._waiting is None:
                if not any(worker.ready for worker in self._workers):
                    break
                try:
                    self._waiting, _ = listener.accept()
                except BlockingIOError:
                    return
                except OSError:  # it is gone already, or no file descriptor is left
                    break
            if not self._hand_over():
                break
        else:
            return
        time.sleep(0.01)

    def _hand_over(self) -> bool:
        """Give the connection that waits to a worker; False = none has room."""
        assert self._waiting
        takers = [worker for worker in self._workers if worker.ready]
        for worker in in_turn(takers, time.monotonic()):
            try:
                socket.send_fds(worker.end, [b"c"], [self._waiting.fileno()])
            except OSError:  # its buffer is full, or it has just ended
                continue
            self._handed += 1
            worker.open, worker.last = worker.open + 1, self._handed
            worker.recent += 1
            self._waiting.close()
            self._waiting = None
            return True
        return False

    def _signal(self, number: int) -> None:
        """The first one stops all in order; a second Ctrl-C does not wait."""
        if self._stopping and number == signal.SIGINT:
            for worker in self._workers:
                os.kill(worker.pid, signal.SIGINT)
        self._stop()
        for worker in self._workers:
            if not worker.ending:
                self._end(worker, takes_more=True)

    def _stop(self) -> None:
        """There will be no new workers."""
        self._stopping = True

    def _end(self, worker: _Worker, takes_more: bool = False) -> None:
        """Tell a worker to stop; until it is done, it may be left to answer that it is stopping."""
        worker.ending, worker.ready = True, worker.ready and takes_more
        worker.kill_at = time.monotonic() + self.grace_s
        os.kill(worker.pid, signal.SIGTERM)

    def _reap(self) -> None:
        """Notice the workers that have ended."""
        for worker in list(self._workers):
            pid, code = os.waitpid(worker.pid, os.WNOHANG)
            if not pid:
                continue
            status = os.waitstatus_to_exitcode(code)
            self._workers.remove(worker)
            if worker.end.fileno() >= 0:
                self._selector.unregister(worker.end)
                worker.end.close()
            self.ended(worker.pid)
            if worker.ending:
                # Ended by the signal itself, it had not begun to serve.
                well = status in (0, *(-number for number in STOPS)) or not self._stopping
                self._status = self._status if well else _exit_status(status)
                continue
            log.error("worker %d ended with status %d", worker.pid, status)
            if not self._was_ready:  # it would be the same for the next one
                self._status = _exit_status(status) or 1
                self._stop()
                continue
            self._fail(worker)

    def _fail(self, worker: _Worker) -> None:
        """A worker could not go on: another takes its place, and where one after the other fails,
        later and later. Called when that is known; until such a worker ends it may drain for long.
        """
        now = time.monotonic()
        self._deaths = 1 if now - worker.started > _STEADY_S else self._deaths + 1
        self._start_at = now + min(_MOST_DELAY_S, 0.1 * 2 ** min(self._deaths - 1, 10))

    def _watch(self) -> None:
        """Replace what has ended, and end what does not answer."""
        now = time.monotonic()
        if now - self._watched > _PAUSED_S:
            for worker in self._workers:
                worker.heard = now
        self._watched = now
        for worker in self._workers:
            if worker.ready and not worker.ending and now - worker.heard > _SILENT_S:
                log.error("worker %d has not answered for %d s", worker.pid, _SILENT_S)
                self._fail(worker)
                worker.ending, worker.ready, worker.kill_at = True, False, now
            if now >= worker.kill_at:
                os.kill(worker.pid, signal.SIGKILL)
        if self._stopping:
            if self._listening and not any(worker.ready for worker in self._workers):
                self._listening = False  # refused at once is better than waiting for nobody
                for listener in self.sockets:
                    self._selector.unregister(listener)
                    listener.close()
            return
        if not self._was_ready or now < self._start_at:
            return
        if sum(not worker.ending for worker in self._workers) < (self.wanted or 1):
            try:
                self._start()
            except OSError as error:
                log.error("cannot start a worker: %s", error.strerror)
                self._start_at = now + _MOST_DELAY_S


def _exit_status(status: int) -> int:
    """As a shell tells it: 128 and the signal's number for a process that a signal has ended."""
    return 128 - status if status < 0 else status
