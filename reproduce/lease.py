"""Who works in a folder: one process at a time, on all machines that share it, also where files cannot be locked (NFS).

A lease is a small file ``<name>-<number>`` in the folder; the highest number holds it.  Its holder touches it as a sign
of life.  One without such a sign for the seconds that it states, or of a process of this machine that has ended, may
be taken over: by the file of the next number, which is made with ``link``, so that of two processes one gets it.  A
process that was only paused sees the higher number when it wakes, before it writes (``Lease.check``).  Numbers are
never used again, so that nobody takes a later holder for an earlier one.

Ages are differences of two times that the file server has put on files; no machine's own clock counts.

(The library filelock has leases, too, but takes one over by exchanging two names, which NFS cannot do.)
"""

import json
import os
import platform
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from caffe_compat.errors import CaffeCompatError

#: without a sign of life after which a holder counts as lost
LEASE_S = 60.0
#: signs of life in that time
BEATS = 4
#: of the folder of a network
NETWORK_LEASE = ".lease"
_POLL_S = 0.1
_RELEASED_NS = 0


class Held(CaffeCompatError):
    """Another process works in the folder."""


class LeaseLost(CaffeCompatError):
    """Another process has taken the folder over, as this one gave no sign of life."""


@dataclass(frozen=True)
class Holder:
    """What the file of a lease says, and how old its last sign of life is."""

    host: str
    process: int
    seconds: float
    age_s: float
    gone: bool  # whether it has released the lease, or is a process of this machine that has ended

    @property
    def alive(self) -> bool:
        """Whether nobody may take the lease over."""
        return not self.gone and self.age_s < self.seconds

    def __str__(self) -> str:
        return f"{self.host}, process {self.process}"


class Lease:
    """The right to work in ``folder``, until ``release``; a thread gives the signs of life.

    ``seconds``: as above, for others to go by.  ``wait_s``: how long to wait for a holder to end or to be given up.
    Raises Held when it does neither, OSError where no file can be made.
    """

    def __init__(
        self, folder: Path, *, seconds: float = LEASE_S, name: str = NETWORK_LEASE, wait_s: float = 0.0
    ) -> None:
        self.folder, self.seconds = folder.absolute(), seconds
        self._name, self._lost, self._stop = name, False, threading.Event()
        deadline = time.monotonic() + wait_s
        while True:
            file, other = _take(self.folder, name, seconds)
            if file is not None:
                break
            if time.monotonic() >= deadline:
                raise Held(
                    f"{folder}: {other} works here (sign of life {other.age_s:.0f} s ago); wait for it or stop it"
                    if other
                    else f"{folder}: another process has just begun to work here; wait for it or stop it"
                )
            time.sleep(_POLL_S)
        self._file, self._sure = file, _now()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def check(self, *, sure: bool = False) -> None:
        """Raise LeaseLost when another process has taken over.

        ``sure``: ask the folder even when the last sign of life is recent.  OSError where the folder cannot be asked.
        """
        if not self._lost and (sure or _now() - self._sure > self.seconds / 2):
            self._sign()
        if self._lost:
            raise LeaseLost(
                f"{self.folder}: another process has taken this over, as this one gave no sign of life for "
                f"{self.seconds:.0f} s; it goes on there"
            )

    def release(self) -> None:
        """Let others work here; a second call does nothing."""
        self._stop.set()
        self._thread.join(timeout=1.0)
        if not self._lost:
            with suppress(OSError):  # taken over meanwhile, or the folder is gone
                os.utime(self._file, ns=(_RELEASED_NS, _RELEASED_NS))
        self._lost = True

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _beat(self) -> None:
        while not self._stop.wait(self.seconds / BEATS) and not self._lost:
            with suppress(OSError):  # the server may come back; nothing is written before check() has asked it
                self._sign()

    def _sign(self) -> None:
        """A sign of life, or the news that the lease is lost."""
        if _newest(self.folder, self._name) != _number(self._file):
            self._lost = True
            return
        try:
            os.utime(self._file)  # the server's time, not ours
        except FileNotFoundError:
            self._lost = True
        else:
            self._sure = _now()


def holder(folder: Path, server_s: float | None = None, *, name: str = NETWORK_LEASE) -> Holder | None:
    """Who holds the lease of a folder; None where nobody does, or may be taken over.

    ``server_s``: ``server_time`` of that folder or one beside it, where it is known.
    """
    found = _read(folder, name, _newest(folder, name))
    if found is None or found[0].gone:
        return None
    age_s = (server_time(folder) if server_s is None else server_s) - found[1]
    known = Holder(found[0].host, found[0].process, found[0].seconds, max(0.0, age_s), gone=False)
    return known if known.alive else None


def server_time(folder: Path) -> float:
    """Seconds since 1970 by the clock of the machine whose disk ``folder`` is on; ours where no file can be made."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".time-", dir=folder) as probe:
            os.utime(probe.name)
            return os.stat(probe.name).st_mtime
    except OSError:
        return time.time()


def _take(folder: Path, name: str, seconds: float) -> tuple[Path | None, Holder | None]:
    """The file of a lease that is ours now, or None and who has it, where that is known."""
    number = _newest(folder, name)
    with _new_file(folder, seconds) as (new, server_s):
        found = _read(folder, name, number)
        if found is not None:
            other, mtime_s = found
            other = Holder(other.host, other.process, other.seconds, max(0.0, server_s - mtime_s), other.gone)
            if other.alive:
                return None, other
        file = folder / f"{name}-{number + 1:08d}"
        if not _link(new, file):
            return None, None
        if _newest(folder, name) != number + 1:  # we slept between the steps: later holders have come, and tidied up
            file.unlink(missing_ok=True)
            return None, None
    for old in range(number, -1, -1):
        try:
            (folder / f"{name}-{old:08d}").unlink()
        except OSError:
            break
    return file, None


@contextmanager
def _new_file(folder: Path, seconds: float) -> Iterator[tuple[Path, float]]:
    """A file that says who we are, under a name of its own, and the server's time."""
    handle, path = tempfile.mkstemp(prefix=".new-lease-", dir=folder)
    try:
        with open(handle, "w") as file:
            json.dump(_ourselves() | {"seconds": seconds}, file)
        os.utime(path)
        yield Path(path), os.stat(path).st_mtime
    finally:
        with suppress(OSError):
            os.unlink(path)


def _link(new: Path, file: Path) -> bool:
    """Give ``new`` its second name; False when another file has it.

    Over NFS the answer of a ``link`` that was made can be lost: the number of names tells.
    """
    try:
        os.link(new, file)
    except FileExistsError:
        return os.stat(new).st_nlink == 2
    return True


def _newest(folder: Path, name: str) -> int:
    """The number of the lease's file; 0 for none.  Listing the folder asks the server; a stat might not."""
    form = re.compile(re.escape(name) + r"-(\d{8})")
    return max((int(found[1]) for entry in os.listdir(folder) if (found := form.fullmatch(entry))), default=0)


def _number(file: Path) -> int:
    return int(file.name[-8:])


def _read(folder: Path, name: str, number: int) -> tuple[Holder, float] | None:
    """What the file of that number says, and when it was touched; None where it is not there."""
    try:
        # Opened, so that an NFS client asks for the present time; the name may have gone meanwhile.
        with open(folder / f"{name}-{number:08d}") as file:
            said = json.loads(file.read() or "null")
            touched = os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    except ValueError:  # damaged: only its age counts
        said, touched = None, os.stat(folder / f"{name}-{number:08d}")
    said = said if isinstance(said, dict) else {}
    host, process, seconds = said.get("host"), said.get("process"), said.get("seconds")
    known = Holder(
        host if isinstance(host, str) else "an unknown machine",
        process if type(process) is int else 0,
        float(seconds) if isinstance(seconds, int | float) and 0 < seconds < 1e6 else LEASE_S,
        0.0,
        touched.st_mtime_ns == _RELEASED_NS or _has_ended(said),
    )
    return known, touched.st_mtime


def _has_ended(said: dict[str, Any]) -> bool:
    """Whether the file is of this machine, and its process has ended."""
    process = said.get("process")
    if said.get("machine") != _machine() or type(process) is not int or not _start_of("self"):
        return False
    return _start_of(str(process)) != said.get("began")


def _ourselves() -> dict[str, Any]:
    return {"host": platform.node(), "machine": _machine(), "process": os.getpid(), "began": _start_of("self")}


@cache
def _machine() -> str:
    """What tells the processes that this one can see from those of other machines and containers."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _start_of(process: str) -> str:
    """When a process began, in the kernel's ticks; "" when it has ended or cannot be seen."""
    try:
        state, *numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else numbers[18]


def _now() -> float:
    """Seconds that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
