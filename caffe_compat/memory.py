"""How the process's allocator treats freed memory.

A training step on the CPU frees and allocates the same large blocks again and again: activations, gradients.  glibc
gives each freed block back to the system, which must then clear and map it anew, 4 KiB at a time, at the next step.
"""

import ctypes
import platform

# <malloc.h>, part of glibc's binary interface
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD = 64 << 20  # bytes by which the heap grows at least, so that it grows rarely


def keep_freed_memory() -> bool:
    """Keep freed memory in the process, for its next allocations; returns whether that is so from now on.

    For a process that trains: the memory it once needed stays with it until it ends.  Affects all of the process's
    libraries, and cannot be undone.  Calling it again does no harm.  False, and nothing happens, where the C library
    is not glibc (musl, macOS, Windows).
    """
    if platform.system() != "Linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # Large blocks come from the heap (no mmap), and the heap never shrinks (-1: no threshold).
    options = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_TOP_PAD: _TOP_PAD}
    return all(library.mallopt(option, value) == 1 for option, value in options.items())
