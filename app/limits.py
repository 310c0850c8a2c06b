"""How many processes there is room for: by the cores, and by the control groups of this one.

A group's limit holds for all below it, and the least counts. Version 2 of control groups has one
tree; version 1 one for each controller. Inside a container the tree may begin at the container's
own group while the kernel still names it by its place outside, so a group that is not to be seen is
passed over.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")

# What the first process and each more take with the models that ship, under load (docs/log.md).
_FIRST_BYTES, _NEXT_BYTES = 120 * 2**20, 72 * 2**20


def _groups(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """Folders of the groups that this process is in, in the trees that may have a controller."""
    named: dict[str, str] = {}  # controller, of version 2 none -> place
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            named.update(dict.fromkeys(controllers.split(","), place))
    for tree, within in ((root, named.get("")), (root / controller, named.get(controller))):
        parts = Path((within or "/").lstrip("/")).parts
        if ".." in parts:  # outside of what is to be seen
            parts = ()
        yield from (tree.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))


def _read(file: Path) -> list[float]:
    """The numbers in a file; none if there is no such file or it has others."""
    with contextlib.suppress(OSError, ValueError):
        return [float(word) for word in file.read_text().replace("max", "inf").split()]
    return []


def cores(root: Path = _ROOT, own: Path = _OWN) -> int:
    """CPU cores that this process may use, whole ones, at least 1: by its affinity and by the
    quotas of its control groups.

    Args:
        root: Where control groups are mounted.
        own: What tells the process's groups.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        allowed = os.cpu_count() or 1
    for group in _groups("cpu", root, own):
        told = _read(group / "cpu.max") or [
            number for name in ("quota", "period") for number in _read(group / f"cpu.cfs_{name}_us")
        ]
        if len(told) == 2 and 0 < told[0] < math.inf and told[1] > 0:
            allowed = min(allowed, int(told[0] / told[1]))
    return max(1, allowed)


def processes(root: Path = _ROOT, own: Path = _OWN) -> int:
    """One a core, but no more than have room under the memory limits of the control groups: over
    one the kernel would end a process, again and again.

    Args:
        root, own: As of ``cores``.
    """
    limits = [
        limit
        for group in _groups("memory", root, own)
        for limit in _read(group / "memory.max") or _read(group / "memory.limit_in_bytes")
    ]
    limit = min(limits, default=math.inf)
    if limit == math.inf:
        return cores(root, own)
    room = 1 + max(0, int((limit - _FIRST_BYTES) // _NEXT_BYTES))
    return min(cores(root, own), room)


def shortage(root: Path = _ROOT, own: Path = _OWN) -> str | None:
    """What to tell where memory leaves room for fewer processes than there are cores.

    Args:
        root, own: As of ``cores``.
    """
    room, wanted = processes(root, own), cores(root, own)
    return (
        f"the memory limit leaves room for {room} of {wanted} processes" if room < wanted else None
    )
