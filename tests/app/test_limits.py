"""How many processes a machine's cores and control groups leave room for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.limits import cores, processes, shortage

MIB = 2**20


def groups(root: Path, files: dict[str, str], own: str = "0::/\n") -> tuple[Path, Path]:
    """A tree of control groups, and the file that tells a process's own."""
    tree, told = root / "tree", root / "own"
    tree.mkdir()
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    told.write_text(own)
    return tree, told


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "max 100000"}, 4),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "900000 100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000"}, 4),
        ({"cpu.max": "nonsense"}, 4),
        ({"cpu.max": "100000 0"}, 4),
        ({"cpu.max": ""}, 4),
        ({}, 4),
    ],
)
def test_cores_are_what_the_control_group_leaves(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert cores(*groups(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "max"}, 4),
        ({"memory.max": str(128 * MIB)}, 1),
        ({"memory.max": str(64 * MIB)}, 1),
        ({"memory.max": str(200 * MIB)}, 2),
        ({"memory.max": str(1024 * MIB), "cpu.max": "300000 100000"}, 3),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, 4),
        ({"memory/memory.limit_in_bytes": str(128 * MIB)}, 1),
        ({"memory.max": "nonsense"}, 4),
        ({}, 4),
    ],
)
def test_processes_are_no_more_than_the_memory_limit_has_room_for(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert processes(*groups(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        # Version 2: the group's own limit, or that of one it is in.
        ("0::/a/b", {"a/b/cpu.max": "200000 100000", "a/cpu.max": "300000 100000"}, 2),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/a/b", {"cpu.max": "100000 100000", "a/cpu.max": "300000 100000"}, 1),
        ("0::/a/b", {"other/cpu.max": "100000 100000"}, 4),
        # Version 1, with version 2 for other controllers beside it.
        (
            "4:memory:/a\n3:cpu,cpuacct:/b/c\n0::/a",
            {"cpu/b/cpu.cfs_quota_us": "200000", "cpu/b/cpu.cfs_period_us": "100000"},
            2,
        ),
        # In a container that is named by its place outside: the tree begins at its own group.
        (
            "3:cpu,cpuacct:/docker/0123",
            {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"},
            1,
        ),
        ("0::/../../a", {"cpu.max": "100000 100000", "a/cpu.max": "200000 100000"}, 1),
        ("0::/with space:and colon", {"with space:and colon/cpu.max": "200000 100000"}, 2),
        ("nonsense", {"cpu.max": "100000 100000"}, 1),
        ("", {"cpu.max": "100000 100000"}, 1),
    ],
)
def test_a_limit_holds_for_all_groups_below(
    tmp_path: Path, own: str, files: dict[str, str], expected: int
) -> None:
    assert cores(*groups(tmp_path, files, own)) == expected


def test_a_memory_limit_of_an_outer_group_counts_and_is_told(tmp_path: Path) -> None:
    files = {"a/memory.max": str(200 * MIB), "a/b/memory.max": str(900 * MIB)}
    found = groups(tmp_path, files, "0::/a/b")
    assert processes(*found) == 2
    assert shortage(*found) == "the memory limit leaves room for 2 of 4 processes"


def test_nothing_is_told_where_there_is_room(tmp_path: Path) -> None:
    assert shortage(*groups(tmp_path, {"memory.max": str(900 * MIB)})) is None


def test_without_control_groups_all_cores_count(tmp_path: Path) -> None:
    assert processes(tmp_path / "none", tmp_path / "none") == 4


@pytest.fixture
def tight_group() -> Iterator[Path]:
    """A real control group below this process's, with 128 MiB."""
    if sys.platform != "linux":
        pytest.skip("control groups are Linux's")
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    places = {controllers: place.lstrip("/") for _, controllers, place in lines}
    root = Path("/sys/fs/cgroup")
    if "memory" in places:
        group, limit = root / "memory" / places["memory"] / "genserve", "memory.limit_in_bytes"
    else:
        group, limit = root / places.get("", "") / "genserve", "memory.max"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        (group / limit).write_text(str(128 * MIB))
        yield group
    except OSError as error:
        pytest.skip(f"no limit can be set here: {error.strerror}")
    finally:
        group.rmdir()


def test_a_real_group_within_another_is_found(tight_group: Path) -> None:
    code = f"""
import os
from pathlib import Path
Path({str(tight_group / "cgroup.procs")!r}).write_text(str(os.getpid()))
os.sched_getaffinity = lambda _: {{0, 1, 2, 3}}
from app.limits import processes
print(processes())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
