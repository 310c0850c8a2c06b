"""The service writes no file: a full disk cannot kill it, and whatever ends it leaves nothing."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.formats.png import to_png
from tests.hostile import form
from tests.live_service import connect, counted, get, post, read, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

ROOT = Path(__file__).parents[2]


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def written_files(pid: int) -> list[str]:
    """Regular files that a process has open for writing, or has mapped to write to."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            is_file, target = stat.S_ISREG(link.stat().st_mode), os.readlink(link)
            flags = int(Path(f"/proc/{pid}/fdinfo/{link.name}").read_text().split()[3], 8)
        except FileNotFoundError:
            continue
        if is_file and flags & os.O_ACCMODE != os.O_RDONLY:
            found.append(target)
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        _, access, _, _, inode, *path = line.split(maxsplit=5)
        anonymous = path and path[0].startswith(("/dev/zero", "/memfd:", "anon_inode"))
        if "w" in access and "s" in access and inode != "0" and not anonymous:
            found.append(line)
    return found


@pytest.mark.slow
def test_a_service_serves_without_a_writable_folder_and_leaves_nothing_when_it_is_killed(
    tiny_store: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-m", "app", "--port", "0", "--models-dir", str(tiny_store)]
    nowhere = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), "/proc/nothing")
    process = subprocess.Popen(
        [*command, "--workers", "2"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"} | nowhere,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        url = process.stdout.readline().rpartition(" ")[2].strip().rstrip("/")
        until(lambda: counted(url, "genserve_processes") == 2)
        large = to_png(np.zeros((1200, 1200), np.uint8)) + bytes(3 * 2**20)
        upload = form(('name="file"; filename="a"', large))
        kind = "multipart/form-data; boundary=x"
        for head, body in (
            (post("/encode", Content_Type=kind, Content_Length=str(len(upload))), upload),
            (post("/generate?n=64&format=webp&scale=4"), b""),
            (post("/dataset?n=200"), b""),
        ):
            with connect(url) as connection:
                connection.sendall(head + body)
                assert read(connection).status == 200
        assert get(url, "/status")[0] == get(url, "/docs")[0] == 200
        processes = family(process.pid)
        assert len(processes) >= 3
        assert [written_files(pid) for pid in processes] == [[]] * len(processes)
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in processes))
        assert list(home.iterdir()) == []
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stderr.close()
