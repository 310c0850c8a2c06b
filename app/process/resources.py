"""How many workers fit, and what memory is left for pictures: by the CPU cores and by the limits of
the process's control groups (v2).

The limit of a group holds for all groups below it, so the smallest one counts. A container may see
the tree from its own group downwards or from any group above; limits beyond that are invisible.
Version 1 of control groups is not read: set ``GENSERVE_WORKERS`` there.
"""

import contextlib
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from app.settings import DEFAULT_CODEC_MEMORY

PROC_SELF = Path("/proc/self")
_OCTAL = re.compile(r"\\([0-7]{3})")  # how the kernel writes a space in a path

# Memory of the first worker and of each further one, with the shipped models under load: the first
# reached 109 MiB, two together 153 to 185 MiB. The codec's three processes take up to 8 MiB more
# each time, without the pictures.
_FIRST_BYTES, _NEXT_BYTES = 128 * 2**20, 80 * 2**20
_CODEC_BYTES = 64 * 2**20  # of pictures in each worker's codec, at least
_FOR_CODEC = 0.9  # of what the workers leave; the rest is for bodies of requests


def usable_cores(proc: Path = PROC_SELF) -> int:
    """Whole CPU cores that this process may use, at least 1: its affinity, cut by ``cpu.max``.

    Args:
        proc: The folder with the process's ``cgroup`` and ``mountinfo``.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cores = os.cpu_count() or 1
    for group in _control_groups(proc):
        quota = _numbers(group / "cpu.max")  # microseconds of CPU time in each period, the period
        if len(quota) == 2 and 0 < quota[0] < math.inf and quota[1] > 0:
            cores = min(cores, int(quota[0] / quota[1]))
    return max(1, cores)


def default_workers(proc: Path = PROC_SELF) -> int:
    """One worker a core, but no more than fit under ``memory.max``: the kernel would kill them.

    Each has its models, and a codec that can decode a picture.

    Args:
        proc: As in ``usable_cores``.
    """
    limit = _memory_limit(proc)
    if limit == math.inf:
        return usable_cores(proc)
    left = limit - _FIRST_BYTES - _CODEC_BYTES
    fitting = 1 + max(0, int(left // (_NEXT_BYTES + _CODEC_BYTES)))
    return min(usable_cores(proc), fitting)


def codec_memory(workers: int, proc: Path = PROC_SELF) -> int:
    """Bytes of memory for the pictures in each worker's codec: what the workers leave of
    ``memory.max``, as far as that is of use.

    Args:
        workers: How many there are.
        proc: As in ``usable_cores``.
    """
    limit = _memory_limit(proc)
    if limit == math.inf:
        return DEFAULT_CODEC_MEMORY
    left = (limit - _FIRST_BYTES - (workers - 1) * _NEXT_BYTES) * _FOR_CODEC / workers
    return int(min(max(left, _CODEC_BYTES), DEFAULT_CODEC_MEMORY))


def _memory_limit(proc: Path) -> float:
    """Bytes; infinite = none."""
    limits = [limit for group in _control_groups(proc) for limit in _numbers(group / "memory.max")]
    return min(limits, default=math.inf)


def memory_shortage(proc: Path = PROC_SELF) -> str | None:
    """A line for the log where memory, and not the cores, decides how many workers there are.

    Args:
        proc: As in ``usable_cores``.
    """
    workers, cores = default_workers(proc), usable_cores(proc)
    if workers == cores:
        return None
    return f"the memory limit leaves room for {workers} of {cores} processes"


def _control_groups(proc: Path) -> list[Path]:
    """Folders of the process's control group and of all groups above it that are visible."""
    own: PurePosixPath | None = None
    for line in _lines(proc / "cgroup"):
        hierarchy, _, path = line.partition("::")  # "0::/a/b" (cgroups(7))
        if hierarchy == "0" and path:
            own = PurePosixPath(path)
    if own is None:
        return []
    inside, outside = [], []
    for root, folder in _trees(proc):
        if own.is_relative_to(root) and ".." not in own.parts:
            parts = own.relative_to(root).parts
            inside += [folder.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
        else:
            outside.append(folder)
    # If no visible tree contains our group, a visible tree most likely begins at it.
    return inside or outside


def _trees(proc: Path) -> Iterator[tuple[PurePosixPath, Path]]:
    """For each mounted tree: the group at its root, and its folder (proc_pid_mountinfo(5))."""
    for line in _lines(proc / "mountinfo"):
        mount, _, filesystem = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) < 5 or filesystem.split(" ")[0] != "cgroup2":
            continue
        root, folder = (_OCTAL.sub(lambda o: chr(int(o[1], 8)), f) for f in fields[3:5])
        yield PurePosixPath(root), Path(folder)


def _lines(file: Path) -> list[str]:
    """The file's lines, or none if it cannot be read. Paths in it may be any bytes."""
    with contextlib.suppress(OSError):
        return os.fsdecode(file.read_bytes()).split("\n")
    return []


def _numbers(file: Path) -> list[float]:
    """The numbers in the file (``max`` = inf), or none if it cannot be read or holds others."""
    with contextlib.suppress(OSError, ValueError):
        return [float(word) for word in file.read_text().replace("max", "inf").split()]
    return []
