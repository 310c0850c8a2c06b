"""The page on training with a synthetic set, run on a small one."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.documents import ROOT

PAGE = ROOT / "docs/how-to/train-on-a-synthetic-set.md"


@pytest.mark.slow
def test_a_classifier_of_synthetic_digits_reads_real_ones(
    shipped: Any, mnist_root: Path, tmp_path: Path
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    environment = {
        "N": "3000",
        "GENSERVE_URL": shipped.url,
        "MNIST_ROOT": str(mnist_root),
        "PYTHONPATH": str(ROOT / "client/src"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"accuracy on real digits: ([0-9.]+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) > 0.85  # .1 is chance; .94 was measured
    assert list(tmp_path.iterdir()) == []
