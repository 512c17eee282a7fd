import ctypes
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from caffe_compat import memory

# Page faults of one more 64 MiB array, which glibc by itself always maps anew, and the process's size in pages.
PROGRAM = """
import resource, torch
from caffe_compat.memory import keep_freed_memory
kept = [keep_freed_memory() for _ in range({calls})]
sizes = []
def faults(mib):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(mib << 18)
    sizes.append(int(open("/proc/self/statm").read().split()[1]))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(all(kept), min(faults(64) for _ in range(10)))
for round in range(60):
    for mib in (40, 64, 3, 50):
        faults(mib)
print(sizes[-1] - sizes[len(sizes) // 2])
"""
PAGES = (64 << 20) // 4096


def run(calls: int) -> tuple[bool, int, int]:
    command = [sys.executable, "-c", PROGRAM.format(calls=calls)]
    kept, faults, growth = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return kept == "True", int(faults), int(growth)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc")
def test_freed_memory_is_used_again() -> None:
    _, faults, _ = run(calls=0)
    if faults < PAGES // 600:
        pytest.skip("the environment keeps freed memory already, or pages are huge")
    kept, faults_kept, growth = run(calls=2)
    assert kept
    assert faults_kept < faults // 10
    assert growth < 2 * PAGES  # of 120 blocks; memory that is not used again would be 100 times that


def test_nothing_happens_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert not memory.keep_freed_memory()

    class Musl:
        def __init__(self, name: str | None) -> None:
            pass

    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(ctypes, "CDLL", Musl)
    assert not memory.keep_freed_memory()


GIB = 1 << 30


def limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], own: str = "", address_space: int = -1
) -> None:
    """A system with these files of control groups, 8 GiB of memory of which 6 are free, and 1 GiB of swap."""
    (tmp_path / "meminfo").write_text("MemTotal: 8388608 kB\nMemAvailable: 6291456 kB\nSwapFree:  1048576 kB\n")
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (address_space, address_space))


NEW_GROUP = {
    "memory.max": f"{4 * GIB}\n",
    "memory.current": f"{3 * GIB}\n",
    "memory.stat": f"anon 5\ninactive_file {GIB}\n",
}
OLD_GROUP = {
    "memory/job/memory.limit_in_bytes": f"{3 * GIB}",
    "memory/job/memory.usage_in_bytes": "0",
    "memory/job/memory.stat": "",
}


@pytest.mark.parametrize(
    ("files", "own", "left"),
    [
        ({}, "", 7 * GIB),
        (NEW_GROUP, "0::/\n", 2 * GIB),
        (NEW_GROUP, "0::/of/the/host\n", 2 * GIB),
        ({**NEW_GROUP, "memory.max": "max\n"}, "0::/\n", 7 * GIB),
        (OLD_GROUP, "5:cpu:/\n4:memory,hugetlb:/job\n0::/\n", 3 * GIB),
        ({"memory.max": "1\n"}, "0::/\n", 7 * GIB),
    ],
)
def test_a_shortage_by_each_limit(
    files: dict[str, str], own: str, left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(tmp_path, monkeypatch, files, own)
    assert memory.shortage(left) is None
    assert memory.shortage(left + 1) == left


def test_a_shortage_of_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits(tmp_path, monkeypatch, {}, address_space=GIB // 2)
    there = memory.shortage(GIB)
    assert there is not None
    assert there < GIB // 2
    assert memory.shortage(GIB - 1) is None, "less than 1 GiB is not looked at"


def test_a_system_that_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits(tmp_path, monkeypatch, {})
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "absent")
    assert memory.shortage(1 << 60) is None


@pytest.mark.parametrize(
    ("error", "size"),
    [
        (MemoryError("Unable to allocate 6.00 GiB for an array with shape (1, 2)"), "6.00 GiB"),
        (MemoryError(), ""),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 800 bytes."), "800 bytes"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0"), "20.00 MiB"),
        (RuntimeError("CUDA error: out of memory"), ""),
        (RuntimeError("shapes do not fit"), None),
    ],
)
def test_what_allocators_say(error: Exception, size: str | None) -> None:
    assert memory.no_memory(error) == size
