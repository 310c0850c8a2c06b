"""The whole interface, walked by curl as a person would."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "api_walk.sh"


@pytest.fixture(autouse=True)
def _curl() -> None:
    for program in ("bash", "curl"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}; install the distribution's package, {program}")


def test_every_answer_is_as_the_readme_has_it(shipped: Any) -> None:
    done = subprocess.run(["bash", SCRIPT, shipped.url], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    walked = re.search(r"(\d+) requests, all as they should be", done.stdout)
    assert walked
    assert int(walked[1]) > 150


def test_an_answer_of_another_kind_ends_it(shipped: Any) -> None:
    done = subprocess.run(["bash", SCRIPT, f"{shipped.url}/static"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "status 404, expected 200" in done.stderr
