"""What this process has of the machine, as Prometheus names it; nothing where there is no /proc."""

import os
from pathlib import Path


def process_figures() -> dict[str, float]:
    """Values by the names of the metrics ``process_...``."""
    try:
        import resource  # Unix only

        pages = Path("/proc/self/statm").read_text().split()
        page = os.sysconf("SC_PAGE_SIZE")
        return {
            "virtual_memory_bytes": int(pages[0]) * page,
            "resident_memory_bytes": int(pages[1]) * page,
            "open_fds": len(os.listdir("/proc/self/fd")),
            "max_fds": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        }
    except (ImportError, OSError):
        return {}
