"""PyTorch's threads in a process that may not start as many as the machine has cores, as in a container.

PyTorch's own thread pool ends the process where the system refuses it a thread, so that nobody can catch it: how many
there may be is asked for before.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
PROCESSES = Path("/proc")
#: threads beside PyTorch's pool: those that make batches, decode images, run backward passes
SPARE = 8


def fit_threads() -> None:
    """Let PyTorch's pool be no larger than there is room for, with one warning; nothing where there is no limit."""
    room = room_for_threads()
    if room is None or room >= len(os.sched_getaffinity(0)) + SPARE:
        return
    import torch

    wanted = torch.get_num_threads()
    threads = max(1, min(wanted, room - SPARE))
    if threads < wanted:
        torch.set_num_threads(threads)
        warnings.warn(
            f"this process may start {room} more threads (the limit of its container or user): PyTorch computes with "
            f"{threads} in place of {wanted}",
            stacklevel=2,
        )


def room_for_threads() -> int | None:
    """How many threads this process may still start; None where nothing limits them.

    The limits: ``pids.max`` of the process's cgroups (containers), and ``ulimit -u`` for who is not root.  Linux only;
    other systems are not asked.
    """
    if sys.platform != "linux":
        return None
    import resource

    rooms = list(_rooms_of_cgroups())
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if limit != resource.RLIM_INFINITY and os.geteuid() != 0:
        rooms.append(limit - _threads_of_user())
    return max(0, min(rooms)) if rooms else None


def _rooms_of_cgroups() -> Iterator[int]:
    with suppress(OSError, ValueError):
        for line in OWN_CGROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in ("", "pids"):
                continue
            root = CGROUPS / controllers
            # A container may see its own cgroup as the root, under whatever name it has outside.
            own = root / path.lstrip("/")
            for folder in (own, *own.parents):
                yield from _room_of(folder)
                if folder == root:
                    break


def _room_of(folder: Path) -> Iterator[int]:
    with suppress(OSError, ValueError):  # no such file, or "max"
        most = int((folder / "pids.max").read_text())
        yield most - int((folder / "pids.current").read_text())


def _threads_of_user() -> int:
    """What ``ulimit -u`` counts."""
    count = 0
    for process in PROCESSES.glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid == os.getuid():
                count += len(os.listdir(process / "task"))
    return count
