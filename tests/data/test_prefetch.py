import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from caffe_compat.data.prefetch import Prefetcher

LOOP = """
import sys
from caffe_compat.data import Loader, Transformer
loader = Loader(sys.argv[1], 64, Transformer(crop_size=8, mirror=True))
loader.next_batch()
print("ready", flush=True)
while sys.argv[2] == "loop":
    loader.next_batch()
"""


def test_order_depth_and_error() -> None:
    numbers = iter([1, 2, 3])
    prefetcher: Prefetcher[int] = Prefetcher(lambda: next(numbers), 2, "test")
    assert [prefetcher.get() for _ in range(3)] == [1, 2, 3]
    with pytest.raises(StopIteration):
        prefetcher.get()
    assert not any(t.name == "prefetch test" for t in threading.enumerate())


def test_close_does_not_wait_for_a_full_queue() -> None:
    prefetcher: Prefetcher[int] = Prefetcher(lambda: 1, 1, "full")
    prefetcher.get()
    start = time.perf_counter()
    prefetcher.close()
    assert time.perf_counter() - start < 5
    assert not any(t.name == "prefetch full" for t in threading.enumerate())


def start(database: Path, how: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", LOOP, str(database), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run started in the background of a shell ignores SIGINT, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def test_program_that_closes_nothing_ends_cleanly(database: Path) -> None:
    child = start(database, "once")
    _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (0, "")


def test_ctrl_c_ends_everything(database: Path) -> None:
    child = start(database, "loop")
    os.kill(child.pid, signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT
    assert errors.endswith("KeyboardInterrupt\n")


def test_without_a_thread_results_are_made_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    numbers = iter([1, 2])
    prefetcher = Prefetcher(lambda: next(numbers), 4, "test")
    assert [prefetcher.get(), prefetcher.get()] == [1, 2]
    with pytest.raises(StopIteration):
        prefetcher.get()
    prefetcher.close()
