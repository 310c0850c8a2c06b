"""Where and with what a run was made."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from bench.children import ROOT

PACKAGES = [
    "fastapi",
    "httptools",
    "numpy",
    "onnxruntime",
    "pillow",
    "pydantic",
    "starlette",
    "torch",
    "uvicorn",
    "uvloop",
]


def describe() -> dict[str, object]:
    """CPU, cores, load by others before the run, versions, and the source's revision."""
    cpu = [s for s in Path("/proc/cpuinfo").read_text().splitlines() if s.startswith("model name")]
    git = ["git", "describe", "--always", "--dirty"]
    revision = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "revision": revision or "unknown",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }
