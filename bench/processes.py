"""What a service costs, over all its processes: CPU time and memory, from /proc."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "BENCH_CHILD"  # in the environment of a child and, by inheritance, of all that it starts
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A line of /proc: who it is, whose it is, and the CPU seconds it has used."""

    pid: int
    state: str  # one letter; Z = a zombie, which only waits for its parent
    parent: int
    session: int
    cpu_s: float


def parse_stat(line: str) -> Process:
    """/proc/PID/stat (proc(5)); the name, in brackets, may itself hold blanks and brackets."""
    pid, _, rest = line.partition(" (")
    fields = rest.rpartition(") ")[2].split()  # from field 3, the state
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
    return Process(int(pid), fields[0], int(fields[1]), int(fields[3]), cpu_s)


def parse_pss(text: str) -> int:
    """Bytes of proportional set size in /proc/PID/smaps_rollup: shared pages count in parts."""
    (line,) = [line for line in text.splitlines() if line.startswith("Pss:")]
    return int(line.split()[1]) * 1024


def family(everyone: Iterable[Process], leader: int, marked: Iterable[int] = ()) -> list[Process]:
    """The leader, its session, those marked, and all descendants: daemons leave one or the other.

    Args:
        everyone: All processes.
        leader: Process id of the child, which leads a session of its own.
        marked: Process ids whose environment says that they are the child's.
    """
    known, all_of_them = {leader, *marked}, list(everyone)
    while True:
        found = {p.pid for p in all_of_them if {p.pid, p.parent, p.session} & known}
        if found <= known:
            return [p for p in all_of_them if p.pid in known]
        known |= found


def of(leader: int, mark: str) -> list[Process]:
    """The living processes of the child ``leader``, in whose environment MARK is ``mark``."""
    everyone, marked = [], []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):  # it ended meanwhile
            process = parse_stat((folder / "stat").read_text(errors="replace"))
            everyone.append(process)
            if f"{MARK}={mark}\0".encode() in (folder / "environ").read_bytes():
                marked.append(process.pid)
    return family(everyone, leader, marked)


def cpu_s(family_: Iterable[Process]) -> float:
    """CPU seconds that they have used so far."""
    return sum(process.cpu_s for process in family_)


def pss(family_: Iterable[Process]) -> int:
    """Bytes of memory that they have together; a page that several share counts once."""
    total = 0
    for process in family_:
        with suppress(OSError, ValueError):
            total += parse_pss(Path(f"/proc/{process.pid}/smaps_rollup").read_text())
    return total
