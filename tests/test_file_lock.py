"""A second writer is refused; whatever ends the first one frees the lock."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from caffe_compat.file_lock import FileLock, ProcessLock

REFUSAL = DataError("somebody else writes")
HOLD = """
import sys
from caffe_compat.errors import DataError
from caffe_compat.file_lock import FileLock
lock = FileLock(sys.argv[1], DataError("held"))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_second_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock", REFUSAL) as first:
        for _ in range(2):
            with pytest.raises(DataError, match="somebody else writes"):
                FileLock(tmp_path / "lock", REFUSAL)
        assert (tmp_path / "lock").exists()
    assert os.listdir(tmp_path) == []
    with FileLock(tmp_path / "lock", REFUSAL):
        first.release()  # a second time; it must not take the new one away
        assert os.listdir(tmp_path) == ["lock"]


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(DataError, match="somebody else writes"):
            FileLock(tmp_path / "lock", REFUSAL)
        child.send_signal(signal.SIGKILL)
    with FileLock(tmp_path / "lock", REFUSAL):
        pass


def test_a_folder_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "none" / "lock", REFUSAL)


def test_without_locks_in_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.warns(UserWarning, match="lock: no lock: No locks available; see that nobody else writes here"):
        lock = FileLock(tmp_path / "lock", REFUSAL)
    lock.release()
    assert os.listdir(tmp_path) == []


def test_never_two_at_a_time(tmp_path: Path) -> None:
    """Also while others remove the file between its opening and its locking."""
    inside, most, entered = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, entered
        for _ in range(300):
            try:
                with FileLock(tmp_path / "lock", REFUSAL):
                    inside += 1
                    most = max(most, inside)
                    entered += 1
                    inside -= 1
            except DataError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entered > 0
    assert most == 1


def test_a_process_shares_its_lock_and_keeps_others_out(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}

    def may_write() -> bool:
        """Whether another process may."""
        command = [sys.executable, "-c", HOLD, str(lock)]
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert done.stdout or b"DataError: held" in done.stderr
        if done.stdout:
            lock.unlink()  # it has ended without a release
        return bool(done.stdout)

    first = ProcessLock(lock, REFUSAL)
    with ProcessLock(tmp_path / "." / "lock", REFUSAL):
        first.release()
        first.release()
        assert not may_write()
        assert lock.exists()
    assert may_write()
    assert os.listdir(tmp_path) == []
    with FileLock(lock, REFUSAL), pytest.raises(DataError, match="somebody else writes"):
        ProcessLock(lock, REFUSAL)
    second = ProcessLock(lock, REFUSAL)
    del second
    assert os.listdir(tmp_path) == []
