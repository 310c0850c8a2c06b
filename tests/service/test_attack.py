"""``make attack`` reports what it is to report."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attack.__main__ import Use, growth, use
from tests.attack.kinds import KINDS

ROOT = Path(__file__).parents[2]


def test_a_leak_of_a_megabyte_an_hour_is_seen_and_a_start_that_grows_is_none() -> None:
    def samples(megabytes: float) -> list[tuple[float, Use]]:
        """Every two seconds of an hour: 100 MB more while it warms up, then so many an hour."""
        return [
            (t, Use(min(200.0, 100 + t) + megabytes * t / 3600, 40, (1,)))
            for t in map(float, range(0, 3600, 2))
        ]

    assert growth(samples(0.0)) == pytest.approx(0.0, abs=1e-6)
    assert growth(samples(1.0)) == pytest.approx(1.0)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_processes_that_have_ended_do_not_end_the_measuring() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie
        seen = use(os.getpid())
    assert seen.workers == (os.getpid(), child.pid)
    assert seen.megabytes > 1
    assert use(child.pid) == Use(0.0, 0, (child.pid,))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_under_each_attack_a_bystander_gets_every_answer(tiny_store: Path) -> None:
    slow = ("bombs", "promising", "trickling", "hoarding", "not_reading")  # seconds each
    options = ["--seconds", "0.5", "--rest", "0.1", "--soak", "1"]
    options += [f"--without={name}" for name in slow]
    done = subprocess.run(
        [sys.executable, "-m", "tests.attack", *options, "--models-dir", str(tiny_store)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(KINDS) - len(slow) + 2  # with "none" and the soak
    for row in rows:
        assert "| 0 of " in row, done.stdout
        assert "replaced" not in row
    assert "Growth in the soak" in done.stdout
