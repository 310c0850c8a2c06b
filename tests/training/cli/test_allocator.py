"""Memory that is freed is used again without the kernel."""

import platform
import resource
import subprocess
import sys

import pytest

from tests.training.tiny import ROOT

_FAULTS = """
import resource, sys
from training.cli.allocator import keep_freed_memory
kept = keep_freed_memory()
def touch():  # 8 MiB
    bytearray(2**23)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    touch()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
@pytest.mark.parametrize("given", [{}, {"MALLOC_MMAP_THRESHOLD_": "65536"}])
def test_large_blocks_are_mapped_once_unless_the_user_says_otherwise(given: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS], cwd=ROOT, env=given, capture_output=True, text=True
    )
    kept, faults = done.stdout.split()
    assert kept == str(not given)
    if kept == "True":  # 20 blocks, of which none is mapped anew
        assert int(faults) < 2**23 // resource.getpagesize()
