"""A codec process: does one job after the other within limits that the system holds it to."""

import contextlib
import os
import socket
import traceback
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from app.codec.jobs import JOBS
from app.codec.messages import BrokenMessageError, Message, receive, send
from app.errors import ServiceError
from app.fitting.adapt import Fitting
from app.formats.reading.picture_header import DecodingLimits
from app.formats.reading.uploads import read_upload

try:
    import resource
except ImportError:  # Windows, where no codec process is started
    resource = None  # type: ignore[assignment]

ACCEPTED = b"+"  # a job has arrived whole: from here on it is this process's
MEMORY, TRACEBACK = "memory", "traceback"  # what ended a job, besides the errors of requests
MAX_PARTS = 2**30 + 2**28  # bytes of a message: a body of the largest setting, and pixels

_NICE = 10  # whoever answers requests goes first
_OOM_SCORE = "700"  # of 1000: where memory runs out, the kernel ends these before the service
_SLACK = 16 * 2**20  # bytes of address space besides a job's memory
_GROWTH = 64 * 2**20  # bytes left behind by its jobs, after which a process is replaced
_STATM = Path("/proc/self/statm")


def work(end: socket.socket) -> None:
    """Do jobs until the other end is closed, or until this process has grown.

    Args:
        end: Blocking.
    """
    _restrict()
    first = _address_space()
    with contextlib.suppress(BrokenMessageError, OSError):
        while _address_space() <= first + _GROWTH:
            message = receive(end, MAX_PARTS)
            end.sendall(ACCEPTED)
            send(end, _do(message))
            del message


def _restrict() -> None:
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold an upload


def _do(message: Message) -> Message:
    """The result of a job, or its error."""
    kind, memory = message.header.pop("kind"), message.header.pop("memory")
    try:
        with _at_most(memory):
            return JOBS[kind](message)
    except (MemoryError, SystemError):  # the latter is Python's, where it has no memory left
        return Message({"error": MEMORY})
    except ServiceError as error:
        return Message({"error": error.slug, "detail": error.detail})
    except Exception:
        return Message({"error": TRACEBACK, "detail": traceback.format_exc()})


@contextlib.contextmanager
def _at_most(memory: int):  # type: ignore[no-untyped-def]
    """Allow so many bytes more than are used now; beyond them allocations fail."""
    used = _address_space()
    if not used:  # not Linux: the header's estimate alone bounds it
        yield
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + memory + _SLACK
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _address_space() -> int:
    """Bytes; 0 = unknown."""
    try:
        return int(_STATM.read_bytes().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return 0


def warm_up() -> None:
    """Load what decoding needs, so that each forked process has it."""
    ramp = np.arange(28 * 28, dtype=np.uint32).reshape(28, 28) % 251
    picture = PillowImage.fromarray(ramp.astype(np.uint8)).resize((64, 64))
    for kind in ("PNG", "JPEG", "WEBP"):
        out = BytesIO()
        picture.save(out, kind)
        read_upload(out.getvalue(), (1, 28, 28), DecodingLimits(), Fitting("auto", "yes"))
