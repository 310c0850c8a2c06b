"""Where and with what a run was made."""

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
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
        "gpu": _gpu(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "revision": revision or "unknown",
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None


def _gpu() -> str | None:
    """The first NVIDIA GPU's name, as the driver tells it; None = there is none."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in path.read_text().splitlines():
            if line.startswith("Model:"):
                return line.partition(":")[2].strip()
    return None
