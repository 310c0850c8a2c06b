"""The running service does what its OpenAPI says: schemathesis makes requests of all kinds from it,
good and bad, and looks at every answer."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "3")  # random ones an operation, after the fixed
# Without coverage and stateful, which are slow, some thirty calls a second.
PHASES = os.environ.get("SCHEMATHESIS_PHASES", "examples,coverage,fuzzing,stateful")
SECONDS = os.environ.get("SCHEMATHESIS_SECONDS", "150")  # at most


def test_no_answer_is_unlike_the_openapi(start_server: Any, tmp_path: Path) -> None:
    with start_server("--workers", "1", "--max-dataset-n", "64") as server:
        done = subprocess.run(
            [
                *(Path(sys.executable).with_name("st"), "--config-file"),
                *(TESTS / "schemathesis.toml", "run", f"{server.url}/openapi.json"),
                *("--checks", "all", "--max-examples", EXAMPLES, "--max-time", SECONDS),
                *("--phases", PHASES, "--seed", "1", "--continue-on-failure"),
            ],
            cwd=tmp_path,  # where it keeps what it finds
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        tested = re.search(r"Selected: (\d+)/(\d+)\n\s*Tested: (\d+)", done.stdout)
        assert tested, done.stdout[-2000:]
        assert len(set(tested.groups())) == 1  # every operation, none skipped
        assert server.process.poll() is None
