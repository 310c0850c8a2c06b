"""Jobs in processes of their own: ended, replaced, bounded, fair. The processes are real."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from app.batching.ticket import ClientDisconnectedError
from app.codec.fork_server import ForkServer
from app.codec.jobs import ComparisonJob, EncodingJob, UploadJob
from app.codec.pool import CodecPool, PoolLimits
from app.errors import (
    BodyTooLargeError,
    DeadlineExceededError,
    NotReadyError,
    OverloadedError,
    UnreadableImageError,
)
from app.fitting.adapt import Fitting
from app.formats.encoding import PictureEncoding
from app.formats.png import to_png
from app.formats.reading.picture_header import DecodingLimits
from tests.hostile import endless_jpeg, file_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

GREY = (1, 28, 28)
MIB = 2**20
NO_LIMITS = DecodingLimits(max_scans=10**6, max_chunks=10**6)
LARGE = file_of(PillowImage.linear_gradient("L").resize((600, 600)), "PNG")
ENDLESS = endless_jpeg()


class Recorder:
    """An ``Observer``."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.alive = 0
        self.changed = asyncio.Event()

    def codec_job(self, kind: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.outcomes[f"{kind} {outcome}"] += 1

    def codec_refused(self, kind: str, reason: str) -> None:
        self.refused[f"{kind} {reason}"] += 1

    def codec_processes(self, alive: int) -> None:
        self.alive = alive
        self.changed.set()


class Pool(CodecPool):
    """A pool whose processes a test can see."""

    server: ForkServer
    recorder: Recorder

    @property
    def pids(self) -> set[int]:
        """Of its codec processes."""
        pid = self.server.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        return {int(child) for child in children.read_text().split()}

    async def until_alive(self, count: int) -> None:
        """Wait until it has so many processes."""
        async with asyncio.timeout(30):
            while self.recorder.alive != count:
                self.recorder.changed.clear()
                await self.recorder.changed.wait()

    async def until_gone(self, before: set[int]) -> None:
        """Wait until one of these processes is gone: one that is ended takes a moment to die."""
        async with asyncio.timeout(30):
            while before <= self.pids:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)


@asynccontextmanager
async def started(**limits: Any) -> AsyncIterator[Pool]:
    server, recorder = ForkServer.by_exec(), Recorder()
    pool = Pool(PoolLimits(**({"memory": 256 * MIB} | limits)), server, recorder)
    pool.server, pool.recorder = server, recorder
    pool.start()
    try:
        yield pool
    finally:
        await pool.close()


@pytest.fixture(scope="module")
async def pool() -> AsyncIterator[Pool]:
    async with started() as made:
        yield made


def upload(data: bytes = LARGE, limits: DecodingLimits = NO_LIMITS) -> UploadJob:
    return UploadJob.checked(data, GREY, limits, Fitting("auto", "auto"))


def soon(seconds: float = 60) -> float:
    return time.monotonic() + seconds


def ticks_of(pid: int) -> int | None:
    """Time that a process has computed, in 10 ms; None = there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])
    except FileNotFoundError:
        return None


async def busy(pool: Pool) -> int:
    """Wait until one codec process works; its id."""
    first: dict[int, int] = {}
    async with asyncio.timeout(30):
        while True:
            for pid in pool.pids:
                ticks = ticks_of(pid)
                if ticks is not None and ticks - first.setdefault(pid, ticks) >= 10:
                    return pid
            await asyncio.sleep(0.01)


async def test_a_process_returns_what_this_one_would(pool: Pool) -> None:
    job = upload()
    there, here = await pool.run(job, soon()), job.run()
    np.testing.assert_array_equal(there.image, here.image)
    assert there[1:] == here[1:] == (600, 600, ("fitted",))

    image = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
    file = to_png(image, 16)
    comparison = ComparisonJob.checked(file, 255 - image, 16, NO_LIMITS)
    assert not replace(comparison, data=file + bytes(40_000)).cheap
    found = await pool.run(replace(comparison, data=file + bytes(40_000)), soon())
    assert found == comparison.run() == (448, 448, 448 * 448, 255)

    for encoding in (
        PictureEncoding("image/webp", [image] * 9, (b"<x/>",), 8),
        PictureEncoding("image/png", [image] * 64, (b"",) * 64, 16),
        PictureEncoding("image/png", [image, 255 - image] * 32, (b"",), 4, "animation", None, 90),
    ):
        assert not encoding.cheap
        assert await pool.run(EncodingJob(encoding), soon()) == encoding.files()


DIGIT = np.zeros((28, 28), np.uint8)
DIGIT[6:22, 12:16] = 255
TINY, PICTURE = to_png(DIGIT), PillowImage.fromarray(DIGIT)


@pytest.mark.parametrize(
    "file", [TINY, to_png(255 - DIGIT), file_of(PICTURE, "WEBP", lossless=True)]
)
async def test_a_tiny_picture_is_read_at_once(file: bytes) -> None:
    pool = CodecPool(PoolLimits(memory=256 * MIB), None, Recorder())
    await pool.close()  # no thread and no process is left
    job = upload(file)
    found, expected = await pool.run(job, soon()), job.run()
    np.testing.assert_array_equal(found.image, expected.image)
    assert found[1:] == expected[1:]
    comparison = ComparisonJob.checked(TINY, DIGIT, 1, NO_LIMITS)
    assert await pool.run(comparison, soon()) == comparison.run() == (28, 28, 0, 0)


@pytest.mark.parametrize(
    "file",
    [
        to_png(np.roll(DIGIT, 8, axis=1)),  # its ink has to be centred
        to_png(DIGIT[:, 1:]),
        to_png(DIGIT) + bytes(4096),
        to_png(DIGIT, 4),
        LARGE,
    ],
)
def test_what_takes_longer_is_not(file: bytes) -> None:
    assert upload(file).at_once() is None


def test_ink_is_looked_for_in_a_process_unless_the_picture_is_small() -> None:
    file = to_png(DIGIT, 4)
    assert not upload(file).cheap
    assert UploadJob.checked(file, GREY, NO_LIMITS, Fitting()).cheap
    assert upload(to_png(DIGIT, 2)).cheap


def test_a_tiny_picture_that_is_broken_is_refused_at_once() -> None:
    with pytest.raises(UnreadableImageError):
        upload(TINY[:60]).at_once()


async def test_a_picture_that_takes_too_long_ends_at_the_deadline_and_its_process_with_it(
    pool: Pool,
) -> None:
    await pool.until_alive(2)
    before = pool.pids
    assert len(before) == 2
    started = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        await pool.run(upload(ENDLESS), soon(0.3))
    assert time.monotonic() - started < 10  # the picture would take minutes
    await pool.run(upload(), soon())
    await pool.until_alive(2)
    await pool.until_gone(before)
    assert len(pool.pids & before) == 1  # one is another now
    assert pool.recorder.outcomes["decode deadline"] == 1


async def test_a_client_that_leaves_ends_its_job(pool: Pool) -> None:
    await pool.until_alive(2)
    left = asyncio.Event()
    job = asyncio.ensure_future(pool.run(upload(ENDLESS), soon(), left.is_set, "a"))
    pid = await busy(pool)
    left.set()
    with pytest.raises(ClientDisconnectedError):
        await job
    await pool.run(upload(), soon())
    await pool.until_gone({pid})
    assert pool.recorder.outcomes["decode left"] == 1


async def test_a_process_that_is_killed_fails_its_own_job_alone(pool: Pool) -> None:
    await pool.until_alive(2)
    doomed = asyncio.ensure_future(pool.run(upload(ENDLESS), soon(), None, "a"))
    os.kill(await busy(pool), signal.SIGKILL)
    others = await asyncio.gather(*(pool.run(upload(), soon(), None, "b") for _ in range(4)))
    assert {other.width for other in others} == {600}
    with pytest.raises(UnreadableImageError, match="ended the process"):
        await doomed


async def test_processes_that_die_while_idle_are_replaced_without_a_request_noticing(
    pool: Pool,
) -> None:
    await pool.until_alive(2)
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    assert (await pool.run(upload(), soon())).width == 600


async def test_a_picture_that_needs_more_memory_than_its_header_says_is_refused(
    pool: Pool,
) -> None:
    class Lying(UploadJob):
        memory = 8 * MIB

    large = file_of(PillowImage.new("RGB", (4000, 4000)), "PNG")  # 64 MB of pixels
    honest = upload(large)
    job = Lying(large, GREY, NO_LIMITS, honest.fitting, honest.header)
    with pytest.raises(BodyTooLargeError, match="than the 8 MiB"):
        await pool.run(job, soon())
    assert (await pool.run(upload(large), soon())).width == 4000


async def test_the_faults_of_a_picture_are_told_as_where_it_is_decoded_here(pool: Pool) -> None:
    for job in (upload(LARGE[:-1]), upload(ENDLESS, DecodingLimits())):
        with pytest.raises((UnreadableImageError, BodyTooLargeError)) as here:
            job.run()
        with pytest.raises(type(here.value)) as there:
            await pool.run(job, soon())
        assert there.value.detail == here.value.detail


async def test_whoever_fills_the_queue_is_refused_and_another_client_is_served_at_once() -> None:
    async with started(queue_jobs=4, max_share=0.5) as pool:
        await pool.until_alive(2)
        flood = [
            asyncio.ensure_future(pool.run(upload(ENDLESS), soon(), None, "flood"))
            for _ in range(4)
        ]
        await busy(pool)
        assert (await pool.run(upload(), soon(), None, "another")).width == 600
        (refused,) = [job for job in flood if job.done()]  # one runs, two wait
        assert isinstance(refused.exception(), OverloadedError)
        assert pool.recorder.refused == {"decode queue": 1}
        for job in flood:
            job.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
        assert (await pool.run(upload(), soon(), None, "flood")).width == 600


async def test_what_waits_in_vain_is_told_the_deadline() -> None:
    async with started(processes=1) as pool:
        endless = asyncio.ensure_future(pool.run(upload(ENDLESS), soon(), None, "a"))
        await busy(pool)
        with pytest.raises(DeadlineExceededError):
            await pool.run(upload(), soon(0.1), None, "b")
        endless.cancel()
        assert (await pool.run(upload(), soon(), None, "b")).width == 600


async def test_a_fork_server_that_dies_is_replaced() -> None:
    async with started() as pool:
        await pool.until_alive(2)
        os.kill(pool.server.pid, signal.SIGKILL)
        await pool.until_alive(0)
        assert (await pool.run(upload(), soon())).width == 600


async def test_nothing_is_left_when_the_pool_is_closed() -> None:
    async with started() as pool:
        endless = asyncio.ensure_future(pool.run(upload(ENDLESS), soon()))
        await busy(pool)
        pids = pool.pids
    assert len(pids) == 2
    with pytest.raises(NotReadyError):
        await endless
    assert {ticks_of(pid) for pid in (*pids, pool.server.pid)} == {None}
