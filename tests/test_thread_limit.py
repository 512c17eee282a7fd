"""How many threads a process may start, by made-up files of the system."""

import os
import resource
from pathlib import Path

import pytest
import torch

from caffe_compat import thread_limit


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system without limits: its cgroups under ``cgroup``, its processes under ``proc``."""
    for name in ("cgroup", "proc"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(thread_limit, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(thread_limit, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(thread_limit, "PROCESSES", tmp_path / "proc")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)))
    return tmp_path


def limit(folder: Path, most: object, present: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pids.max").write_text(f"{most}\n")
    (folder / "pids.current").write_text(f"{present}\n")


def test_no_limit(system: Path) -> None:
    assert thread_limit.room_for_threads() is None
    (system / "own").write_text("0::/a/b\n")
    limit(system / "cgroup/a/b", "max", 3)
    assert thread_limit.room_for_threads() is None


@pytest.mark.parametrize(
    ("own", "folders", "room"),
    [
        ("0::/a/b\n", {"a/b": (100, 30)}, 70),
        ("0::/a/b\n", {"a/b": (100, 30), "a": (60, 50)}, 10),  # the tightest of those above
        ("0::/\n", {"": (20, 15)}, 5),
        ("5:cpu:/x\n4:pids:/docker/1\n0::/\n", {"pids/docker/1": (50, 20)}, 30),  # version 1
        ("4:pids:/docker/1\n", {"pids": (50, 60)}, 0),  # a container that sees its own as the root
    ],
)
def test_cgroups(own: str, folders: dict[str, tuple[int, int]], room: int, system: Path) -> None:
    (system / "own").write_text(own)
    for name, (most, present) in folders.items():
        limit(system / "cgroup" / name, most, present)
    assert thread_limit.room_for_threads() == room


def test_ulimit_counts_the_users_threads_but_for_root(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for process, threads in (("1", 3), ("22", 4), ("self", 9)):
        for thread in range(threads):
            (system / "proc" / process / "task" / str(thread)).mkdir(parents=True)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (20, 30))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert thread_limit.room_for_threads() == 20 - 7
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert thread_limit.room_for_threads() is None


@pytest.mark.parametrize(("room", "threads"), [(None, 4), (12, 4), (11, 3), (9, 1), (0, 1)])
def test_the_pool_fits(
    room: int | None, threads: int, system: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(thread_limit, "room_for_threads", lambda: room)
    thread_limit.fit_threads()
    assert set_to == ([] if threads == 4 else [threads])
    assert len(recwarn) == len(set_to)
    if set_to:
        assert str(recwarn[0].message) == (
            f"this process may start {room} more threads (the limit of its container or user): PyTorch computes with "
            f"{threads} in place of 4"
        )
