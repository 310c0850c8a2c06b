"""How many processes there is room for: by the cores, and by the control groups of this one.

A group's limit holds for all below it, and the least counts. Version 2 of control groups has one
tree; version 1 one for each controller. In a container a tree may begin at the container's own
group, or at any; what is above cannot be seen.
"""

import contextlib
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_PROCESS = Path("/proc/self")
_OCTAL = re.compile(r"\\([0-7]{3})")  # as the kernel writes spaces

# What the first process and each more take with the models that ship, under load (docs/log.md).
_FIRST_BYTES, _NEXT_BYTES = 120 * 2**20, 72 * 2**20


def _lines(file: Path) -> list[str]:
    """What the kernel tells, a line each; none if there is no such file. Names are any bytes."""
    with contextlib.suppress(OSError):
        return os.fsdecode(file.read_bytes()).split("\n")
    return []


def _trees(process: Path) -> Iterator[tuple[set[str], PurePosixPath, Path]]:
    """Controllers (of version 2: none named), the group it begins at, and the folder of each
    mounted tree of control groups (proc(5), /proc/pid/mountinfo)."""
    for line in _lines(process / "mountinfo"):
        mount, _, kind = line.partition(" - ")
        fields, kinds = mount.split(" "), kind.split(" ")
        if len(fields) < 5 or len(kinds) < 3 or kinds[0] not in ("cgroup", "cgroup2"):
            continue
        begins, folder = (_OCTAL.sub(lambda o: chr(int(o[1], 8)), f) for f in fields[3:5])
        controllers = set(kinds[2].split(",")) if kinds[0] == "cgroup" else {""}
        yield controllers, PurePosixPath(begins), Path(folder)


def _groups(controller: str, process: Path) -> list[Path]:
    """Folders of the groups whose limits of this controller hold for a process."""
    places = {}  # controller, of version 2 "" -> group
    for line in _lines(process / "cgroup"):
        if line.count(":") >= 2:
            _, names, place = line.split(":", 2)
            places.update(dict.fromkeys(names.split(","), PurePosixPath(place)))
    found: list[Path] = []
    for name in {controller, ""} & places.keys():
        inside, outside = [], []
        for controllers, begins, folder in _trees(process):
            if name not in controllers:
                continue
            within = places[name]
            if within.is_relative_to(begins) and ".." not in within.parts:
                parts = within.relative_to(begins).parts
                inside += [folder.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
            else:
                outside.append(folder)
        # Where none is known to have this process's group, it is likely in the one that is there.
        found += inside or outside
    return found


def _read(file: Path) -> list[float]:
    """The numbers in a file; none if there is no such file or it has others."""
    with contextlib.suppress(OSError, ValueError):
        return [float(word) for word in file.read_text().replace("max", "inf").split()]
    return []


def cores(process: Path = _PROCESS) -> int:
    """CPU cores that this process may use, whole ones, at least 1: by its affinity and by the
    quotas of its control groups.

    Args:
        process: The folder in which the kernel tells of it.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        allowed = os.cpu_count() or 1
    for group in _groups("cpu", process):
        told = _read(group / "cpu.max") or [
            number for name in ("quota", "period") for number in _read(group / f"cpu.cfs_{name}_us")
        ]
        if len(told) == 2 and 0 < told[0] < math.inf and told[1] > 0:
            allowed = min(allowed, int(told[0] / told[1]))
    return max(1, allowed)


def processes(process: Path = _PROCESS) -> int:
    """One a core, but no more than have room under the memory limits of the control groups: over
    one the kernel would end a process, again and again.

    Args:
        process: As of ``cores``.
    """
    limits = [
        limit
        for group in _groups("memory", process)
        for limit in _read(group / "memory.max") or _read(group / "memory.limit_in_bytes")
    ]
    limit = min(limits, default=math.inf)
    if limit == math.inf:
        return cores(process)
    room = 1 + max(0, int((limit - _FIRST_BYTES) // _NEXT_BYTES))
    return min(cores(process), room)


def shortage(process: Path = _PROCESS) -> str | None:
    """What to tell where memory leaves room for fewer processes than there are cores.

    Args:
        process: As of ``cores``.
    """
    room, wanted = processes(process), cores(process)
    return (
        f"the memory limit leaves room for {room} of {wanted} processes" if room < wanted else None
    )
