"""Where and with what a run was made."""

import os
import platform
import shutil
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
    """The first NVIDIA GPU's name, as the driver's tool tells it; None = there is none."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return None
    query = [tool, "--query-gpu=name", "--format=csv,noheader"]
    told = subprocess.run(query, capture_output=True, text=True, timeout=60)
    names = told.stdout.splitlines() if told.returncode == 0 else []
    return names[0].strip() if names else None
