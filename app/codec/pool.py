"""Jobs of requests: tiny ones at once, cheap ones in threads of this process, all others in codec
processes.

A job ends at its request's deadline or when its client leaves, whatever it does: its process is
killed and replaced. It waits for its turn until then (``Turns``). What has no room is refused.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from app.batching.ticket import ClientDisconnectedError
from app.codec.codec_process import MEMORY, TRACEBACK
from app.codec.fork_server import ForkServer
from app.codec.jobs import EncodingJob, Job, JsonJob
from app.codec.messages import BrokenMessageError, Message
from app.codec.processes import CodecProcesses, NotAcceptedError
from app.codec.turns import FullError, Turn, Turns
from app.errors import (
    PROBLEMS,
    STOPPED_RETRY_S,
    BodyTooLargeError,
    DeadlineExceededError,
    NotReadyError,
    OverloadedError,
    OverShareError,
    ServiceError,
    UnreadableImageError,
)

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_THREADS = 2  # for cheap jobs, of milliseconds each
_LOOK_S = 0.05  # how often a waiting job's client is looked for
_SMALL_BYTES = 64 * 2**20  # of memory: left free by large jobs, for small ones of other clients
_SMOOTHING = 0.2  # of the mean seconds of a job, by which Retry-After is computed
_TRIES = 3  # for a job whose process had ended before it came


def job_bytes(memory: int) -> int:
    """Bytes that one job may take of ``memory``."""
    return max(memory // 2, memory - _SMALL_BYTES)


class Observer(Protocol):
    """What the pool reports, for the metrics."""

    def codec_job(self, kind: str, outcome: str, seconds: float) -> None:
        """A job has ended: ``done``, ``refused`` by what it found, or as ``killed`` says."""

    def codec_refused(self, kind: str, reason: str) -> None:
        """A job had no room: ``queue``, or ``share``."""

    def codec_processes(self, alive: int) -> None:
        """So many processes there are."""


@dataclass(frozen=True, kw_only=True)
class PoolLimits:
    """What a pool may take."""

    processes: int = 2
    memory: int  # bytes of all jobs in processes together
    queue_jobs: int = 64  # that wait
    queue_bytes: int = 64 * 2**20  # of uploads that wait
    max_share: float = 1.0  # of the queue, as in ``Turns``


class CodecPool:
    """See the module. Construct, use and close it on one event loop.

    Args:
        limits: What it may take.
        server: Forks its processes; None = one is started when the first is needed.
        observer: Is told of jobs and processes.
        clock: That of deadlines, in s.
    """

    def __init__(
        self,
        limits: PoolLimits,
        server: ForkServer | None,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observer = observer
        self._clock = clock
        self._closed = False
        self._threads = ThreadPoolExecutor(_THREADS, "codec")
        self.processes = CodecProcesses(limits.processes, server, observer.codec_processes)
        self._heavy = Turns(
            slots=limits.processes,
            slots_per_client=max(1, limits.processes - 1),  # one is left for others
            memory=limits.memory,
            passing=min(_SMALL_BYTES, limits.memory // 2),
            most_jobs=limits.queue_jobs,
            most_bytes=limits.queue_bytes,
            max_share=limits.max_share,
        )
        self._cheap = Turns(
            slots=_THREADS,
            slots_per_client=_THREADS,
            # As many bytes as waiting uploads of the largest cheap size take.
            most_jobs=2048,
            most_bytes=limits.queue_bytes,
            max_share=limits.max_share,
        )
        self._seconds = {id(self._heavy): 0.1, id(self._cheap): 0.001}  # of a job, the mean

    def start(self) -> None:
        """Start the processes, if a server was given."""
        self.processes.start()

    async def close(self) -> None:
        """End all processes, whatever they do."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self.processes.close()

    async def run(
        self,
        job: Job[Result],
        deadline: float,
        disconnected: Callable[[], bool] | None = None,
        client: Hashable = None,
    ) -> Result:
        """The result of a job.

        Args:
            job: Its input has been checked.
            deadline: On the pool's clock; of waiting and working.
            disconnected: Whether the client has left; then the job ends.
            client: Whose it is.

        Raises:
            ServiceError: of the job's input; OverloadedError or OverShareError if it has no room;
                DeadlineExceededError.
            ClientDisconnectedError: the client has left.
        """
        if (result := job.at_once()) is not None:
            return result
        turns = self._cheap if job.cheap else self._heavy
        granted = asyncio.Event()
        turn = Turn(
            client=client,
            memory=0 if job.cheap else job.memory,
            size=job.size,
            on_turn=granted.set,
        )
        try:
            turns.ask(turn)
        except FullError as error:
            raise self._refusal(job.kind, turns, error) from error
        outcome, started = "failed", self._clock()
        left = _ClientWatch(disconnected)
        try:
            async with asyncio.timeout(max(0.0, deadline - started)) as limit:
                with left.watch(limit):
                    await granted.wait()
                    started = self._clock()
                    if job.cheap:
                        loop = asyncio.get_running_loop()
                        result = await loop.run_in_executor(self._threads, job.run)
                    else:
                        result = await self._in_process(job)
            outcome = "done"
            return result
        except TimeoutError as error:
            outcome = "left" if left.found else "deadline"
            if left.found:
                raise ClientDisconnectedError("the client has gone away") from error
            verb = "written" if isinstance(job, EncodingJob) else "read"
            raise DeadlineExceededError(
                f"the {_input(job)} was not {verb} in the time that the request has"
            ) from error
        except ServiceError:
            outcome = "refused"
            raise
        finally:
            turns.end(turn)
            seconds = self._clock() - started
            if outcome == "done":
                mean = self._seconds[id(turns)]
                self._seconds[id(turns)] = mean + _SMOOTHING * (seconds - mean)
            self._observer.codec_job(job.kind, outcome, seconds)

    async def _in_process(self, job: Job[Result]) -> Result:
        header, parts = job.message()
        message = Message(header | {"kind": job.kind, "memory": job.memory}, parts)
        for _ in range(_TRIES):
            process = await self.processes.take()
            try:
                answer = await process.do(message)
            except NotAcceptedError:
                self.processes.discard(process)
            except BrokenMessageError as error:
                self.processes.discard(process)
                raise self._died(job) from error
            except BaseException:  # the deadline, the client, or the end of the service
                self.processes.discard(process)
                raise
            else:
                self.processes.give_back(process)
                return _result(job, answer)
        raise self._died(job)

    def _died(self, job: Job[Result]) -> ServiceError:
        if self._closed:
            return NotReadyError("the service is stopping", retry_after_s=STOPPED_RETRY_S)
        log.warning("a codec process ended while it was to %s a %s", job.kind, _input(job))
        if isinstance(job, EncodingJob):
            return OverloadedError(
                "the process that wrote the picture has ended; try again in 1 s", retry_after_s=1
            )
        if isinstance(job, JsonJob):
            return _too_much_memory(job)
        return UnreadableImageError(
            "the picture ended the process that decoded it: it is damaged, or takes more memory "
            f"than the {job.memory >> 20} MiB that its header lets expect"
        )

    def _refusal(self, kind: str, turns: Turns, error: FullError) -> ServiceError:
        left = (error.waiting + 1) * self._seconds[id(turns)] / turns.slots
        retry_after_s = max(1, math.ceil(left))
        if error.own is not None:
            self._observer.codec_refused(kind, "share")
            return OverShareError.of(error.own, error.waiting, retry_after_s, "pictures")
        self._observer.codec_refused(kind, "queue")
        return OverloadedError(
            f"{error.waiting} pictures wait to be read or written, and there is no room for this "
            f"one; try again in {retry_after_s} s",
            retry_after_s=retry_after_s,
        )


class _ClientWatch:
    """Ends a timeout when the client leaves. ``found``: whether it has left.

    Args:
        disconnected: Whether the client has left; None = nobody looks.
    """

    def __init__(self, disconnected: Callable[[], bool] | None) -> None:
        self.found = False
        self._disconnected = disconnected
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def watch(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Look from time to time, and end ``limit``."""
        if self._disconnected is None:
            yield
            return
        self._look_later(limit)
        try:
            yield
        finally:
            assert self._timer
            self._timer.cancel()

    def _look_later(self, limit: asyncio.Timeout) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look, limit)

    def _look(self, limit: asyncio.Timeout) -> None:
        assert self._disconnected
        if limit.expired():
            return
        if self._disconnected():
            self.found = True
            limit.reschedule(asyncio.get_running_loop().time())
        else:
            self._look_later(limit)


def _result(job: Job[Result], answer: Message) -> Result:
    """What a process returned.

    Raises:
        ServiceError: the job's own.
    """
    error = answer.header.get("error")
    if error is None:
        return job.result_of(answer)
    if error == MEMORY:
        raise _too_much_memory(job)
    if error == TRACEBACK:
        log.error("a codec process failed to %s: %s", job.kind, answer.header["detail"])
        raise ServiceError(f"the service failed to {job.kind} a {_input(job)}; it is logged")
    raise PROBLEMS[error](answer.header["detail"])


def _input(job: Job[Result]) -> str:
    return "body" if isinstance(job, JsonJob) else "picture"


def _too_much_memory(job: Job[Result]) -> ServiceError:
    mebibytes = job.memory >> 20
    if isinstance(job, EncodingJob):
        return OverloadedError(
            f"the picture takes over {mebibytes} MiB to write: ask for fewer images or a smaller "
            "scale",
            retry_after_s=1,
        )
    if isinstance(job, JsonJob):
        return BodyTooLargeError(
            f"the body's JSON takes over {mebibytes} MiB of memory to parse: send fewer values"
        )
    return BodyTooLargeError(
        f"the picture takes more memory to decode than the {mebibytes} MiB that its header lets "
        "expect: send it smaller, or save it anew"
    )
