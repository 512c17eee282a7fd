"""One process at a time works in a folder, whatever happens to it, its machine and the clocks."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from reproduce import lease
from reproduce.lease import Held, Lease, LeaseLost, _link, holder, server_time

ROOT = Path(__file__).parent.parent.parent
HOUR_S = 3600.0
#: takes the lease of its working directory, says so, and writes a line each time it is asked to
WORKER = """
import sys
from pathlib import Path
from reproduce.lease import Lease, LeaseLost
lease = Lease(Path(), seconds=float(sys.argv[1]))
print("mine", flush=True)
for _ in sys.stdin:
    try:
        lease.check()
        print("wrote", flush=True)
    except LeaseLost:
        print("lost", flush=True)
"""


def worker(folder: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(seconds)],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout
    assert process.stdout.readline() == "mine\n"
    return process


def ask(process: subprocess.Popen[str]) -> str:
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def of_another_machine(folder: Path, age_s: float, number: int = 1) -> Path:
    """The file that a process elsewhere left, whose last sign of life is so old."""
    file = folder / f".lease-{number:08d}"
    file.write_text(json.dumps({"host": "node7", "machine": "node7 x", "process": 12, "began": "34", "seconds": 60}))
    then = server_time(folder) - age_s
    os.utime(file, (then, then))
    return file


def test_the_second_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    with Lease(tmp_path) as first:
        found = holder(tmp_path)
        assert found is not None
        assert found.process == os.getpid()
        with pytest.raises(Held, match=rf"process {os.getpid()} works here \(sign of life \d+ s ago\); wait for it"):
            Lease(tmp_path)
        first.check(sure=True)
    first.release()  # a second time: nothing
    assert holder(tmp_path) is None
    with Lease(tmp_path) as second:
        second.check(sure=True)
        with pytest.raises(LeaseLost):
            first.check()
    assert [path.name for path in tmp_path.iterdir()] == [".lease-00000002"]


def test_leases_of_other_names_are_others(tmp_path: Path) -> None:
    with Lease(tmp_path), Lease(tmp_path, name=".prepare") as other:
        other.check(sure=True)


def test_of_many_that_race_one_gets_it(tmp_path: Path) -> None:
    """For a lease that was never held, and for one to be taken over."""
    for expired in (False, True):
        folder = tmp_path / str(expired)
        folder.mkdir()
        if expired:
            of_another_machine(folder, age_s=61)
        start, won = threading.Barrier(16), list[Lease]()

        def race(folder: Path = folder, start: threading.Barrier = start, won: list[Lease] = won) -> None:
            start.wait()
            with suppress(Held):
                won.append(Lease(folder))

        threads = [threading.Thread(target=race) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        won[0].check(sure=True)
        won[0].release()


def test_a_lost_machine_is_given_up_after_the_stated_time(tmp_path: Path) -> None:
    of_another_machine(tmp_path, age_s=50)
    with pytest.raises(Held, match=r"node7, process 12 works here \(sign of life 5\d s ago\)"):
        Lease(tmp_path)
    of_another_machine(tmp_path, age_s=61)
    assert holder(tmp_path) is None
    Lease(tmp_path).release()


def test_whoever_waits_gets_it_when_the_time_is_over(tmp_path: Path) -> None:
    of_another_machine(tmp_path, age_s=59.8)
    Lease(tmp_path, wait_s=20).release()


def test_a_killed_process_of_this_machine_is_given_up_at_once(tmp_path: Path) -> None:
    process = worker(tmp_path, HOUR_S)
    assert holder(tmp_path) is not None
    process.kill()
    # Not waited for yet: a zombie has ended, too.
    with Lease(tmp_path, wait_s=20) as ours:
        ours.check(sure=True)
    process.communicate()


def test_a_paused_process_notices_before_it_writes(tmp_path: Path) -> None:
    process = worker(tmp_path, 0.4)
    assert ask(process) == "wrote"
    time.sleep(0.6)
    assert ask(process) == "wrote"  # its thread gives signs of life
    process.send_signal(signal.SIGSTOP)
    with Lease(tmp_path, seconds=0.4, wait_s=20) as ours:
        process.send_signal(signal.SIGCONT)
        assert ask(process) == "lost"
        ours.check(sure=True)
    process.communicate()


def test_a_process_that_was_paused_in_vain_goes_on(tmp_path: Path) -> None:
    process = worker(tmp_path, 0.2)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.4)
    process.send_signal(signal.SIGCONT)
    assert ask(process) == "wrote"
    process.communicate()


def test_the_clocks_of_the_machines_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is an hour off neither takes a lease over, nor misses that one is lost."""
    for offset in (-HOUR_S, HOUR_S):
        monkeypatch.setattr(time, "time", lambda offset=offset, time=time.time: time() + offset)
        of_another_machine(tmp_path, age_s=1)
        with pytest.raises(Held):
            Lease(tmp_path)
        of_another_machine(tmp_path, age_s=61)
        assert holder(tmp_path) is None
        monkeypatch.undo()


def test_a_crash_between_the_steps_leaves_one_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the link, before the earlier file is gone: the higher number counts, and what is left is removed later."""
    earlier = of_another_machine(tmp_path, age_s=61)
    of_another_machine(tmp_path, age_s=1, number=2)
    (tmp_path / ".new-lease-left").touch()
    with pytest.raises(Held):
        Lease(tmp_path)
    of_another_machine(tmp_path, age_s=61, number=2)
    with Lease(tmp_path):
        assert not earlier.exists()
        assert (tmp_path / ".lease-00000003").exists()


def test_an_earlier_reader_does_not_take_over_a_later_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that saw an expired lease and slept: another took it, ended, and a third works."""
    of_another_machine(tmp_path, age_s=61)
    whole, calls = _link, list[Path]()

    def late(new: Path, file: Path) -> bool:
        if not calls:
            calls.append(file)
            Lease(tmp_path).release()
            calls.append(file)
            third.append(Lease(tmp_path))
        return whole(new, file)

    third: list[Lease] = []
    monkeypatch.setattr(lease, "_link", late)
    with pytest.raises(Held):
        Lease(tmp_path)
    third[0].check(sure=True)
    third[0].release()


def test_a_link_whose_answer_was_lost_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS repeats a request, and the second one finds the first one's file."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    with Lease(tmp_path) as ours:
        ours.check(sure=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 3, "process": true, "seconds": "x"}', '{"seconds": -1}'])
def test_a_damaged_file_counts_by_its_age(tmp_path: Path, text: str) -> None:
    file = of_another_machine(tmp_path, age_s=0)
    file.write_text(text)
    with pytest.raises(Held, match="an unknown machine, process 0 works here"):
        Lease(tmp_path)
    then = server_time(tmp_path) - lease.LEASE_S - 1
    os.utime(file, (then, then))
    Lease(tmp_path).release()


def test_a_folder_that_has_gone_is_an_error_not_a_right(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    ours = Lease(folder)
    next(folder.iterdir()).unlink()
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        ours.check(sure=True)
    ours.release()
