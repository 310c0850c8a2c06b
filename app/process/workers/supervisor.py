"""The supervisor: it accepts connections, hands them to workers, and replaces workers that fail.

A connection goes to the worker that has fewest open: sockets that share a port (SO_REUSEPORT) are
chosen by a hash, and left a worker idle where connections were few. The supervisor answers nothing,
runs no model and has no thread, so it can fork at any time. Workers share the memory of what was
loaded before ``run``, or by a later ``Generation``: one worker of that has to serve before the
others are exchanged, one after the other, so a failure leaves all as it was. Knows neither HTTP nor
asyncio nor what a worker does. Unix only.

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
from app.process.exit_status import ExitStatus, from_wait
from app.process.hangup import terminal_has_closed
from app.process.sockets import ignore_new_clients
from app.process.workers.balance import least_connections
from app.process.workers.channel import (
    CLOSED,
    CLOSING,
    EXCHANGE,
    FAILED,
    READY,
    READY_ON_GPU,
    open_channel,
)
from app.process.workers.generation import Generation, Work, adopt_orphans
from app.process.workers.worker import Backoff, Worker, places

log = logging.getLogger(__name__)

SILENT_S = 15.0  # without a heartbeat: the event loop of the worker is blocked
_TICK_S = 0.5
_SUSPENDED_S = 5  # between two ticks: this process itself was suspended
_BACKLOG = 2048
_FORCED_S = 1.0  # that workers have to end after a second Ctrl-C
_LOAD_S = 300.0  # that a store may take to be loaded anew, with its first worker
_ACCEPTS = 64  # connections accepted in a row, before workers are heard again


def never() -> bool:
    """No."""
    return False


@dataclass
class Supervisor:
    """Runs workers until SIGTERM or SIGINT; loads anew at SIGHUP, unless its terminal has closed.

    Args:
        sockets: Bound, to listen on.
        workers: How many; their first message says whether they run on a GPU.
        workers_on_gpu: How many there.
        work: What a worker does with its channel, in its place; returns its exit status.
        stop_s: How long a worker may take to stop; then it is killed.
        on_ready: Called when the first worker can serve, with whether it runs on a GPU.
        on_exit: Called with the place of each worker that has ended.
        silent_s: A worker without a heartbeat for so long is replaced.
        prepare: Loads what is served anew, in a process of its own.
        changed: Whether that is to be done without a signal; asked again and again.
    """

    sockets: list[socket.socket]
    workers: int
    workers_on_gpu: int
    work: Work
    stop_s: float
    on_ready: Callable[[bool], None]
    on_exit: Callable[[int], None]
    silent_s: float = SILENT_S
    prepare: Callable[[], Work] | None = None
    changed: Callable[[], bool] = never
    _generation: Generation | None = None  # whose workers serve; None = this process's
    _loading: Generation | None = None  # the next one, until one of its workers serves
    _loading_since: float = 0.0
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
    _looked: float = 0.0  # whether what is served has changed
    _accepted: socket.socket | None = None  # and not handed over yet

    def run(self) -> int:
        """The exit status: 0, or that of a worker that failed to start or to stop."""
        # What is loaded now stays shared: no worker's collector writes to it. Not collected before:
        # there is hardly any garbage yet, and looking for it would delay the start.
        gc.freeze()
        adopt_orphans()
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
                elif isinstance(key.data, Generation):
                    self._hear_generation(key.data)
                else:
                    self._accept(key.fileobj)  # type: ignore[arg-type]
            while self._signals:
                number = self._signals.pop(0)
                if number != signal.SIGHUP or terminal_has_closed():
                    self._stop(number)
                else:
                    self._reload()
            self._reap()
            self._check()
            if self._accepted:
                self._hand_over()
        for number in STOP_SIGNALS:  # a late one is not to change the status
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)  # before what it writes to is closed
        for generation in filter(None, (self._generation, self._loading)):
            self._close_generation(generation)
        return self._status

    # Workers: started, heard, stopped, reaped.

    def _start(self, generation: Generation | None = None) -> None:
        """Fork a worker from a generation; None = from this process.

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
            self._forget()
            ours.close()
            return self.work(theirs, place)

        try:
            pid = generation.fork_worker(theirs, place) if generation else fork(run, "a worker")
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        now = time.monotonic()
        worker = Worker(
            pid=pid, place=place, channel=ours, started=now, heard=now, generation=generation
        )
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _forget(self) -> None:
        """Close and undo, in a child, what is the supervisor's."""
        signal.set_wakeup_fd(-1)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        self._selector.close()
        for worker in self._workers:
            worker.channel.close()
        for listener in self.sockets:
            listener.close()
        if self._accepted:  # left open here, it would outlive its end elsewhere
            self._accepted.close()
        for generation in filter(None, (self._generation, self._loading)):
            generation.forget()

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
            if worker.ready and self._loading and worker.generation is self._loading:
                self._take_over(on_gpu=READY_ON_GPU in messages)
        if FAILED in messages and not worker.ending:
            log.error("worker %d reports that it cannot go on; it is replaced", worker.pid)
            self._backoff.failed(worker.started, time.monotonic())
            self._end(worker)

    def _end(
        self, worker: Worker, ready: bool = False, by: signal.Signals = signal.SIGTERM
    ) -> None:
        """Send a worker a signal to end.

        Args:
            worker: Which.
            ready: Hand connections to it until it is done: it answers that it is stopping.
            by: SIGTERM, or EXCHANGE.
        """
        worker.ending, worker.ready = True, worker.ready and ready
        worker.kill_at = time.monotonic() + self.stop_s
        os.kill(worker.pid, by)

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
        """Notice the workers that have ended, and the orphans of any."""
        workers = {worker.pid: worker for worker in self._workers}
        while True:
            try:
                pid, code = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if (worker := workers.get(pid)) is None:
                continue
            status = os.waitstatus_to_exitcode(code)
            self._workers.remove(worker)
            self._close_channel(worker)
            self.on_exit(worker.place)
            if worker.ending:
                # One that the signal itself ended had not begun to serve.
                expected = status in (0, *(-number for number in (*STOP_SIGNALS, EXCHANGE)))
                if self._stopping and not expected and not self._forced:
                    self._status = from_wait(status)
                continue
            log.error("worker %d ended with status %d", worker.pid, status)
            if self._loading and worker.generation is self._loading:
                self._give_up("the first worker with it ended; the log says why")
            elif self._was_ready:
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
        if not self._was_ready:
            return
        if now - self._looked >= _TICK_S:
            self._looked = now
            if self.changed():
                log.info("the store has changed")
                self._reload()
        if self._loading and now - self._loading_since > _LOAD_S:
            self._give_up(f"it took over {_LOAD_S:g} s")
        if self._exchange() and now >= self._backoff.next_start:
            try:
                self._start(self._generation)
            except OSError as error:
                log.error("cannot start a worker: %s", error.strerror)
                self._backoff.could_not_fork(now)
                if self._generation and self._generation.fileno() < 0 and not self._loading:
                    self._reload()

    # Loading anew: a generation is loaded, tried by one worker, then takes over.

    def _reload(self) -> None:
        """Begin to load anew; what is being loaded already is given up for it."""
        if self._stopping or not self._was_ready or not self.prepare:
            log.warning("not reloaded: the service is starting or stopping")
            return
        if self._loading:
            self._give_up("it is to be loaded once more")
        log.info("loading the store anew")
        try:
            self._loading = Generation(self.prepare, self._forget)
        except OSError as error:
            log.error("not reloaded: %s", error.strerror)
            return
        self._loading_since = time.monotonic()
        self._selector.register(self._loading, selectors.EVENT_READ, self._loading)

    def _hear_generation(self, generation: Generation) -> None:
        try:
            refused = generation.outcome()
            if refused is None and self._stopping:
                self._close_generation(generation)  # loaded too late: no worker starts any more
            elif refused is None:
                self._start(generation)
        except EOFError:
            refused = "the process that loaded it ended"
        except OSError as error:
            refused = f"cannot start a worker: {error.strerror}"
        if refused is None:
            return
        if generation is self._loading:
            self._give_up(refused)
        else:  # loaded once more when a worker has to be replaced
            log.error("the process that workers are forked from ended")
            self._close_generation(generation)

    def _give_up(self, reason: str) -> None:
        """Leave all as it was."""
        assert self._loading
        log.error("not reloaded, what was served goes on: %s", reason)
        for worker in self._workers:
            if worker.generation is self._loading and not worker.ending:
                self._end(worker)
        self._close_generation(self._loading)
        self._loading = None

    def _take_over(self, on_gpu: bool) -> None:
        """A worker of the next generation serves: all others are exchanged from now on."""
        if self._generation:
            self._close_generation(self._generation)
        self._generation, self._loading = self._loading, None
        self._wanted = self.workers_on_gpu if on_gpu else self.workers
        self._backoff = Backoff()
        seconds = time.monotonic() - self._loading_since
        log.info("the store is loaded anew after %.1f s; workers are exchanged", seconds)

    def _close_generation(self, generation: Generation) -> None:
        if generation.fileno() >= 0:
            self._selector.unregister(generation)
            generation.close()

    def _exchange(self) -> bool:
        """End an old worker if as many as wanted serve without it; whether to start a new one."""
        living = [worker for worker in self._workers if not worker.ending]
        trial = sum(worker.generation is self._loading for worker in living if self._loading)
        old = [
            worker
            for worker in living
            if worker.generation is not self._generation
            and not (self._loading and worker.generation is self._loading)
        ]
        if old and sum(worker.ready for worker in living) > self._wanted:
            ended = old.pop(0)
            self._end(ended, by=EXCHANGE)
            living.remove(ended)
        starting = any(not worker.ready for worker in living)
        spare = 1 if old and not starting else 0
        return len(living) - trial < self._wanted + spare

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
            ignore_new_clients(listener)
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
