import ctypes
import platform
import subprocess
import sys

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
