"""How many workers a machine's cores and control groups leave room for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.process.resources import codec_memory, default_workers, memory_shortage, usable_cores

ROOT = Path(__file__).parents[3]
MIB = 2**20


def fake_proc(root: Path, files: dict[str, str], own: str = "0::/\n", begins: str = "/") -> Path:
    """A folder like /proc/self of a process whose control groups have such files.

    Args:
        root: Empty; the tree of groups is made below it, with a space in its path.
        files: Text by name, relative to the tree's folder.
        own: The process's groups, as in /proc/self/cgroup.
        begins: The group that the visible tree begins at.
    """
    for name, text in files.items():
        (root / "a tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "a tree" / name).write_text(text)
    where = str(root / "a tree").replace(" ", r"\040")
    mounts = [
        f"30 29 0:9 / {root} rw - ext4 /dev/sda rw",
        f"31 30 0:1 {begins} {where} rw,nosuid shared:4 - cgroup2 cgroup rw,nsdelegate",
    ]
    (root / "mountinfo").write_text("\n".join(mounts))
    (root / "cgroup").write_text(own)
    return root


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "max 100000"}, 4),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "900000 100000"}, 4),
        ({"cpu.max": "nonsense"}, 4),
        ({"cpu.max": "100000 0"}, 4),
        ({"cpu.max": ""}, 4),
        ({}, 4),
    ],
)
def test_cores_are_what_the_control_group_leaves(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert usable_cores(fake_proc(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "max"}, 4),
        ({"memory.max": str(128 * MIB)}, 1),
        ({"memory.max": str(64 * MIB)}, 1),
        ({"memory.max": str(336 * MIB)}, 2),
        ({"memory.max": str(335 * MIB)}, 1),
        ({"memory.max": str(1024 * MIB), "cpu.max": "300000 100000"}, 3),
        ({"memory.max": "nonsense"}, 4),
        ({}, 4),
    ],
)
def test_workers_are_no_more_than_the_memory_limit_has_room_for(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert default_workers(fake_proc(tmp_path, files)) == expected


QUOTA_1, QUOTA_2, QUOTA_3 = (f"{cores}00000 100000" for cores in (1, 2, 3))


@pytest.mark.parametrize(
    ("own", "begins", "files", "expected"),
    [
        # The group's own limit, or that of one it is in.
        ("0::/a/b", "/", {"a/b/cpu.max": QUOTA_2, "a/cpu.max": QUOTA_3}, 2),
        ("0::/a/b", "/", {"a/b/cpu.max": "max 100000", "a/cpu.max": QUOTA_3}, 3),
        ("0::/a/b", "/", {"cpu.max": QUOTA_1, "a/cpu.max": QUOTA_3}, 1),
        ("0::/a/b", "/", {"other/cpu.max": QUOTA_1, "b/cpu.max": QUOTA_1}, 4),
        # Beside it, groups of version 1.
        (
            "4:memory:/x\n3:cpu,cpuacct:/x\n0::/a",
            "/",
            {"x/cpu.max": QUOTA_1, "a/cpu.max": QUOTA_2},
            2,
        ),
        ("1:name=systemd::/x\n0::/a", "/", {"x/cpu.max": QUOTA_1, "a/cpu.max": QUOTA_2}, 2),
        # A container whose groups are named by their places outside.
        ("0::/docker/01", "/docker/01", {"cpu.max": QUOTA_2, "01/cpu.max": QUOTA_1}, 2),
        ("0::/docker/01/sub", "/docker/01", {"cpu.max": QUOTA_2, "sub/cpu.max": QUOTA_1}, 1),
        ("0::/docker/012", "/docker/01", {"cpu.max": QUOTA_2, "2/cpu.max": QUOTA_1}, 2),
        ("0::/../../a", "/", {"cpu.max": QUOTA_2, "a/cpu.max": QUOTA_1}, 2),
        ("0::/with space:and colon", "/", {"with space:and colon/cpu.max": QUOTA_2}, 2),
        ("nonsense", "/", {"cpu.max": QUOTA_1}, 4),
        ("", "/", {"cpu.max": QUOTA_1}, 4),
    ],
)
def test_a_limit_holds_for_all_groups_below(
    tmp_path: Path, own: str, begins: str, files: dict[str, str], expected: int
) -> None:
    assert usable_cores(fake_proc(tmp_path, files, own, begins)) == expected


@pytest.mark.parametrize(
    "odd", [b"nonsense", b"1 2 3 / /media/M\xfcller rw - ext4 /dev/x rw", b"1 2 3 / /a\x0cb\x0b c"]
)
def test_an_odd_line_beside_hides_no_limit(tmp_path: Path, odd: bytes) -> None:
    proc = fake_proc(tmp_path, {"a/cpu.max": QUOTA_2}, "0::/a")
    for file in (proc / "mountinfo", proc / "cgroup"):
        file.write_bytes(odd + b"\n" + file.read_bytes())
    assert usable_cores(proc) == 2


def test_a_tree_without_our_group_does_not_limit_us(tmp_path: Path) -> None:
    proc = fake_proc(tmp_path, {"a/cpu.max": QUOTA_2}, "0::/a")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cpu.max").write_text(QUOTA_1)
    with (proc / "mountinfo").open("a") as file:
        file.write(f"\n33 30 0:1 /b {tmp_path}/other rw - cgroup2 cgroup rw")
    assert usable_cores(proc) == 2


def test_a_memory_limit_of_an_outer_group_counts_and_is_reported(tmp_path: Path) -> None:
    files = {"a/memory.max": str(336 * MIB), "a/b/memory.max": str(900 * MIB)}
    proc = fake_proc(tmp_path, files, "0::/a/b")
    assert default_workers(proc) == 2
    assert memory_shortage(proc) == "the memory limit leaves room for 2 of 4 processes"


def test_nothing_is_reported_where_there_is_room(tmp_path: Path) -> None:
    assert memory_shortage(fake_proc(tmp_path, {"memory.max": str(900 * MIB)})) is None


@pytest.mark.parametrize(
    ("limit", "workers", "expected"),
    [
        ("max", 2, 384),
        (str(1024 * MIB), 2, 367),
        (str(1024 * MIB), 1, 384),
        (str(128 * MIB), 1, 64),
    ],
)
def test_pictures_may_use_what_the_workers_leave(
    tmp_path: Path, limit: str, workers: int, expected: int
) -> None:
    proc = fake_proc(tmp_path, {"memory.max": limit})
    assert codec_memory(workers, proc) // MIB == expected


@pytest.mark.parametrize("mounts", [None, "", "nonsense", "1 2 3 - cgroup2", "1 2 3 / /x rw"])
def test_where_no_group_is_visible_all_cores_count(tmp_path: Path, mounts: str | None) -> None:
    if mounts is not None:
        (tmp_path / "cgroup").write_text("0::/\n")
        (tmp_path / "mountinfo").write_text(mounts)
    assert default_workers(tmp_path) == 4


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A real control group of version 2 below this process's, with 128 MiB."""
    if sys.platform != "linux":
        pytest.skip("only Linux has control groups")
    group = Path("/sys/fs/cgroup") / f"genserve-test-{os.getpid()}"
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::/"):
            group = Path("/sys/fs/cgroup") / line[4:] / group.name
    if not (group.parent / "cgroup.controllers").exists():
        pytest.skip("no control groups of version 2 at /sys/fs/cgroup")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        (group / "memory.max").write_text(str(128 * MIB))
        yield group
    except OSError as error:
        pytest.skip(f"no limit can be set here: {error.strerror}")
    finally:
        group.rmdir()


def test_a_real_group_within_another_limits_the_workers(small_group: Path) -> None:
    code = f"""
import os
from pathlib import Path
Path({str(small_group / "cgroup.procs")!r}).write_text(str(os.getpid()))
os.sched_getaffinity = lambda _: {{0, 1, 2, 3}}
from app.process.resources import codec_memory, default_workers
print(default_workers())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
