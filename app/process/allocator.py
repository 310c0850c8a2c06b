"""The C library's allocator: gives large blocks back."""

import ctypes
import os

# malloc.h of glibc; larger blocks are mapped alone, and unmapped when they are freed. Arrays of 64
# small images are below it.
_M_MMAP_THRESHOLD = -3
_MMAP_BYTES = 256 * 2**10


def give_back_large_blocks() -> bool:
    """Keep large blocks out of the heap from now on; whether that worked.

    glibc raises its threshold to the size of each large block that is freed, up to 32 MiB. The
    bodies after it then lie in the heap, among small objects that outlive them, and leave holes.
    Does nothing with another C library, or if the environment sets the threshold
    (``MALLOC_MMAP_THRESHOLD_``).
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES))
