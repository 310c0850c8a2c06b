"""The C library's allocator: keeps what is freed, instead of returning it to the kernel."""

import ctypes
import os

# malloc.h of glibc. Blocks over the threshold are mapped anew for each use; 32 MiB is the most that
# it allows. Freed memory at the end of the heap is returned beyond the trim threshold.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_MMAP_BYTES, _TRIM_BYTES, _TOP_PAD_BYTES = 32 * 2**20, 2**30, 64 * 2**20


def keep_freed_memory() -> bool:
    """Have activations of up to 32 MiB reuse the memory of those before; whether that worked.

    By default glibc maps large blocks anew, and the kernel fills every page with zeros at its first
    touch: a third of the time of an evaluation. Does nothing with another C library, or if the
    environment sets the threshold (``MALLOC_MMAP_THRESHOLD_``).
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    values = {
        _M_MMAP_THRESHOLD: _MMAP_BYTES,
        _M_TRIM_THRESHOLD: _TRIM_BYTES,
        _M_TOP_PAD: _TOP_PAD_BYTES,
    }
    return all(mallopt(name, value) for name, value in values.items())
