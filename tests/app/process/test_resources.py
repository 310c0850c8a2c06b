"""How many processes a machine's cores and control groups leave room for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.process.resources import cores, processes, shortage

MIB = 2**20


V1 = ("cpu,cpuacct", "memory")
CPU = "cpu,cpuacct/cpu"
V2 = "0::/\n"


def told(root: Path, files: dict[str, str], own: str = V2, begins: str = "/") -> Path:
    """What the kernel tells of a process whose control groups have such files.

    Args:
        root: Of the trees: files below one called as its controllers are of version 1.
        files: Text by name.
        own: The process's groups.
        begins: The group that each tree begins at.
    """
    for name, text in files.items():
        (root / "a tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "a tree" / name).write_text(text)
    where = str(root / "a tree").replace(" ", r"\040")
    mounts = [f"30 29 0:9 / {root} rw - ext4 /dev/sda rw"]
    mounts += [f"31 30 0:1 {begins} {where} rw,nosuid shared:4 - cgroup2 cgroup rw,nsdelegate"]
    mounts += [
        f"32 31 0:{len(name)} {begins} {where}/{name} rw - cgroup cgroup rw,{name}" for name in V1
    ]
    (root / "mountinfo").write_text("\n".join(mounts))
    (root / "cgroup").write_text(own)
    return root


def version_1(place: str = "/") -> str:
    return f"4:memory:{place}\n3:cpu,cpuacct:{place}\n0::/\n"


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
        ({f"{CPU}.cfs_quota_us": "-1", f"{CPU}.cfs_period_us": "100000"}, 4),
        ({f"{CPU}.cfs_quota_us": "100000", f"{CPU}.cfs_period_us": "100000"}, 1),
        ({f"{CPU}.cfs_quota_us": "100000"}, 4),
        ({"cpu.max": "nonsense"}, 4),
        ({"cpu.max": "100000 0"}, 4),
        ({"cpu.max": ""}, 4),
        ({}, 4),
    ],
)
def test_cores_are_what_the_control_group_leaves(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert cores(told(tmp_path, files, version_1())) == expected


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
    assert processes(told(tmp_path, files, version_1())) == expected


QUOTA_1, QUOTA_2, QUOTA_3 = (f"{cores}00000 100000" for cores in (1, 2, 3))


@pytest.mark.parametrize(
    ("own", "begins", "files", "expected"),
    [
        # The group's own limit, or that of one it is in.
        ("0::/a/b", "/", {"a/b/cpu.max": QUOTA_2, "a/cpu.max": QUOTA_3}, 2),
        ("0::/a/b", "/", {"a/b/cpu.max": "max 100000", "a/cpu.max": QUOTA_3}, 3),
        ("0::/a/b", "/", {"cpu.max": QUOTA_1, "a/cpu.max": QUOTA_3}, 1),
        ("0::/a/b", "/", {"other/cpu.max": QUOTA_1, "b/cpu.max": QUOTA_1}, 4),
        ("0::/a/b", "/", {"cpu/cpu.max": QUOTA_1, "memory/cpu.max": QUOTA_1}, 4),
        (
            version_1("/b"),
            "/",
            {"cpu,cpuacct/b/cpu.cfs_quota_us": "200000", "cpu,cpuacct/b/cpu.cfs_period_us": "1e5"},
            2,
        ),
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
    assert cores(told(tmp_path, files, own, begins)) == expected


@pytest.mark.parametrize(
    "odd", [b"nonsense", b"1 2 3 / /media/M\xfcller rw - ext4 /dev/x rw", b"1 2 3 / /a\x0cb\x0b c"]
)
def test_an_odd_line_beside_hides_no_limit(tmp_path: Path, odd: bytes) -> None:
    process = told(tmp_path, {"a/cpu.max": QUOTA_2}, "0::/a")
    for file in (process / "mountinfo", process / "cgroup"):
        file.write_bytes(odd + b"\n" + file.read_bytes())
    assert cores(process) == 2


def test_a_tree_of_a_group_that_is_not_ours_says_nothing_of_us(tmp_path: Path) -> None:
    process = told(tmp_path, {"a/cpu.max": QUOTA_2}, "0::/a")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cpu.max").write_text(QUOTA_1)
    with (process / "mountinfo").open("a") as file:
        file.write(f"\n33 30 0:1 /b {tmp_path}/other rw - cgroup2 cgroup rw")
    assert cores(process) == 2


def test_a_memory_limit_of_an_outer_group_counts_and_is_told(tmp_path: Path) -> None:
    files = {"a/memory.max": str(200 * MIB), "a/b/memory.max": str(900 * MIB)}
    process = told(tmp_path, files, "0::/a/b")
    assert processes(process) == 2
    assert shortage(process) == "the memory limit leaves room for 2 of 4 processes"


def test_nothing_is_told_where_there_is_room(tmp_path: Path) -> None:
    assert shortage(told(tmp_path, {"memory.max": str(900 * MIB)})) is None


@pytest.mark.parametrize("mounts", [None, "", "nonsense", "1 2 3 - cgroup2", "1 2 3 / /x rw"])
def test_where_nothing_is_told_all_cores_count(tmp_path: Path, mounts: str | None) -> None:
    if mounts is not None:
        (tmp_path / "cgroup").write_text(V2)
        (tmp_path / "mountinfo").write_text(mounts)
    assert processes(tmp_path) == 4


@pytest.fixture
def tight_group() -> Iterator[Path]:
    """A real control group below this process's, with 128 MiB."""
    if sys.platform != "linux":
        pytest.skip("control groups are Linux's")
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    places = {controllers: place.lstrip("/") for _, controllers, place in lines}
    root, name = Path("/sys/fs/cgroup"), f"genserve-test-{os.getpid()}"
    if "memory" in places:
        group, limit = root / "memory" / places["memory"] / name, "memory.limit_in_bytes"
    else:
        group, limit = root / places.get("", "") / name, "memory.max"
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
from app.process.resources import processes
print(processes())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
