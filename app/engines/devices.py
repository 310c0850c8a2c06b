"""Which library runs the models, and where: what the settings ask for, and what is here.

Importing torch takes seconds, so it is asked only where it is to run, or could have a GPU.
"""

import ctypes
import sys
from importlib.util import find_spec

from app.errors import StartupError


def torch_device(engine: str, device: str) -> str | None:
    """The device on which torch runs every model, cpu or cuda; None = torch does not come first.

    Args:
        engine, device: The settings.

    Raises:
        StartupError: they contradict each other, or ask for what is not here.
    """
    if engine == "onnx":
        if device == "cuda":
            raise StartupError(
                "engine is 'onnx', which runs on the CPU, but device is 'cuda'; choose one of them"
            )
        return None
    if engine == "torch" or device == "cuda":
        if not torch_installed():
            setting = "engine is 'torch'" if engine == "torch" else "device is 'cuda'"
            raise StartupError(
                f"{setting}, but torch is not installed: install the project's extra 'torch', or "
                "leave the setting at auto"
            )
    elif device == "cpu" or not torch_installed() or not gpu_count():
        return None
    from app.engines.torch_backend import pick_device

    picked = pick_device(device)
    return picked if engine == "torch" or picked == "cuda" else None


def may_run_torch(engine: str, device: str) -> bool:
    """Whether torch could run models that have graphs.

    Looks for a GPU's driver without calling it: a process that has called it cannot take it along
    into a fork.
    """
    if engine == "onnx" or not torch_installed():
        return False
    return engine == "torch" or device == "cuda" or (device == "auto" and gpu_driver() is not None)


def torch_installed() -> bool:
    """Whether torch can be imported; does not import it."""
    return find_spec("torch") is not None


def gpu_driver() -> ctypes.CDLL | None:
    """NVIDIA's driver; None = it is not installed."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def gpu_count() -> int:
    """GPUs that the driver shows to this process."""
    if (driver := gpu_driver()) is None:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value
