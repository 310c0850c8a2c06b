"""CPU threads: how many there are by default, and how they wait. Imports no torch."""

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def wait_passively() -> None:
    """Make OpenMP's threads sleep while they wait; call this before torch is imported.

    By default they spin for some time, so that beside any other load they hold back the threads
    that have work. Does nothing if ``OMP_WAIT_POLICY`` is set.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("KMP_BLOCKTIME", "0")  # milliseconds; of Intel's and LLVM's OpenMP


def default_threads() -> int:
    """``OMP_NUM_THREADS`` if it is set, else this process's share of the usable cores."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # OpenMP allows one for each level
    if given.isdecimal() and int(given):
        return int(given)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of this run, on this machine
    return max(1, usable_cores() // processes)


def usable_cores(cgroups: Path = CGROUPS, own_cgroup: Path = OWN_CGROUP) -> int:
    """Whole CPU cores that this process may use, at least 1: its affinity, and the CPU quota of its
    control groups (version 2).

    Args:
        cgroups: Where the control groups are mounted.
        own_cgroup: File that names this process's group (cgroups(7)).
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cores = os.cpu_count() or 1
    try:
        lines = own_cgroup.read_text().splitlines()
    except OSError:
        lines = []
    path = next((line[4:] for line in lines if line.startswith("0::/")), "")
    group = cgroups / path
    for folder in (group, *group.parents):  # a quota of a group limits all groups below it
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        if quota != "max":
            cores = min(cores, int(quota) // int(period))
    return max(1, cores)
