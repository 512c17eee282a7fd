"""The host's memory: whether there is enough, and how the process's allocator treats what is freed.

A training step on the CPU frees and allocates the same large blocks again and again: activations, gradients.  glibc
gives each freed block back to the system, which must then clear and map it anew, 4 KiB at a time, at the next step.
"""

import ctypes
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

# <malloc.h>, part of glibc's binary interface
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_LOOK_FROM = 1 << 30  # bytes; less than that is asked for without a look
_MEMINFO = Path("/proc/meminfo")
_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
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


def shortage(size_bytes: int) -> int | None:
    """How many bytes this process could still get, where they are fewer than ``size_bytes``; None where it fits.

    Linux promises more memory than it has and ends the process that uses it, so that whoever asks for much looks first.
    Less than 1 GiB is not looked at.
    """
    if size_bytes < _LOOK_FROM:
        return None
    there = min(_limits(), default=None)
    return there if there is not None and there < size_bytes else None


def _limits() -> Iterator[int]:
    """What is left by each limit that this system tells of."""
    if _MEMINFO.is_file():
        kib = dict(re.findall(r"(\w+): +(\d+) kB", _MEMINFO.read_text()))
        if "MemAvailable" in kib:  # free, or the cache of files
            yield 1024 * (int(kib["MemAvailable"]) + int(kib.get("SwapFree", 0)))
    if _OWN_CGROUP.is_file():
        for line in _OWN_CGROUP.read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if not controllers:
                yield from _cgroup_limit(_CGROUPS, group, "memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                yield from _cgroup_limit(_CGROUPS / "memory", group, *names)
    if not (statm := Path("/proc/self/statm")).is_file():  # macOS, Windows
        return
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield max(0, soft - int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE"))


def _cgroup_limit(root: Path, group: str, limit: str, usage: str, cache: str) -> Iterator[int]:
    # In a container the group's own path may be that of the host, and its files lie at the root.
    for folder in (root / group.lstrip("/"), root):
        try:
            most, used, stat = ((folder / name).read_text() for name in (limit, usage, "memory.stat"))
        except OSError:
            continue
        if most.strip().isdigit():
            cached = re.search(rf"^{cache} (\d+)$", stat, re.MULTILINE)
            yield max(0, int(most) - int(used) + int(cached[1] if cached else 0))
        return


def no_memory(error: BaseException) -> str | None:
    """How much an allocator could not give ("800 bytes", "2.00 GiB", or "" where it does not say); None for an
    ``error`` of another kind."""
    said = str(error)
    if not isinstance(error, MemoryError) and not re.search(
        r"DefaultCPUAllocator|out of memory|STATUS_ALLOC_FAILED", said
    ):
        return None
    asked = re.search(r"(?i)allocate (\d+ bytes|[\d.]+ [KMGT]?i?B)", said)
    return asked[1] if asked else ""
