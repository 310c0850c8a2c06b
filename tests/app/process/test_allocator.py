"""Large blocks do not make the heap grow."""

import platform
import subprocess
import sys

import pytest

from tests.conftest import ROOT

_BLOCKS = """
import re
from pathlib import Path
from app.process.allocator import give_back_large_blocks
def heap():  # bytes
    maps = Path("/proc/self/maps").read_text()
    first, last = re.search(r"^(\\w+)-(\\w+) .*\\[heap\\]$", maps, re.M).groups()
    return int(last, 16) - int(first, 16)
worked = give_back_large_blocks()
bytearray(2**24)  # freed at once
before = heap()
kept = [bytearray(2**20) for _ in range(20)]
print(worked, heap() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
@pytest.mark.parametrize("given", [{}, {"MALLOC_MMAP_THRESHOLD_": "16777216"}])
def test_large_blocks_stay_out_of_the_heap_unless_the_user_says_otherwise(
    given: dict[str, str],
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BLOCKS], cwd=ROOT, env=given, capture_output=True, text=True
    )
    worked, grown = done.stdout.split()
    assert worked == str(not given)
    assert (int(grown) < 2**20) == (not given)
