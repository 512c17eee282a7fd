"""Trains the networks of a plan in processes of their own, each after the one it starts from.

Everything that a process needs is in the network's folder, so other runners (a cluster's queue,
Ray) need no more than ``ready`` and the command ``python -m reproduce.train_one FOLDER``.
"""

import errno
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.forkserver import ensure_running
from pathlib import Path

from caffe_compat.errors import CaffeCompatError
from reproduce.mode import Mode
from reproduce.network import Network
from reproduce.results import DONE, note_failure

POLL_S = 0.5
WRONG_INPUT = 2  # exit code of a process that has said what is wrong


def is_done(network: Network, out: Path) -> bool:
    """Whether the network has been trained to its end."""
    return (out / network.name / DONE).exists()


def ready(networks: Sequence[Network], out: Path) -> list[Network]:
    """Those that are not done and whose base network is, in the plan's order."""
    done = {network.name for network in networks if is_done(network, out)}
    return [n for n in networks if n.name not in done and (not n.base_network or n.base_network in done)]


@dataclass(frozen=True)
class Failure:
    """A network without a result, after all its tries."""

    network: Network
    why: str  # one line
    died: bool  # whether its process ended without saying why, or by a fault of the program


class NetworksFailed(CaffeCompatError):
    """Some networks have no result; the others are trained."""

    def __init__(self, failures: Sequence[Failure], waiting: int, out: Path) -> None:
        """``waiting``: how many networks start from one of them, and were not trained."""
        self.failures = list(failures)
        count = f"{len(failures)} network{'s' if len(failures) > 1 else ''} failed"
        rest = f", {waiting} more wait for {'them' if len(failures) > 1 else 'it'}" if waiting else ""
        more = f" (and {len(failures) - 1} more, named above)" if len(failures) > 1 else ""
        super().__init__(
            f"{out}: {count}{rest}: {failures[0].why}{more}; run the same command again to try them again and continue"
        )


@dataclass
class _Worker:
    network: Network
    process: ForkServerProcess
    connection: Connection
    device: str


@dataclass
class _Tries:
    """How often each network was started, and what became of those that failed."""

    most: int
    started: Counter[str]
    failures: list[Failure]
    running: set[str]

    def may_start(self, network: Network) -> bool:
        """Whether it neither runs nor has failed for good."""
        return network.name not in self.running and all(failure.network != network for failure in self.failures)

    def again(self, network: Network, died: bool) -> bool:
        """Whether a network that ended without a result is tried once more: what is wrong in a file stays wrong."""
        return died and self.started[network.name] < self.most


def run_local(
    networks: Sequence[Network],
    out: Path,
    devices: Sequence[str],
    mode: Mode = Mode(),  # noqa: B008 (it is frozen)
    *,
    retries: int = 0,
    on_start: Callable[[Network], None] = lambda network: None,
    on_done: Callable[[Network], None] = lambda network: None,
    on_failure: Callable[[Failure, bool], None] = lambda failure, again: None,
    on_poll: Callable[[], None] = lambda: None,
) -> list[Failure]:
    """Train on this machine, one process per entry of ``devices`` ("cpu", "cuda:0"; repeat to share one).

    A network that fails does not end the others: it is tried again, ``retries`` times, if its process died; what starts
    from it is left out.  Returns the failures; why a network failed stands in its folder, too (``failed``).  The
    callbacks run in this process; ``on_failure`` hears whether there is another try.
    """
    context = _fork_server()
    free, workers = list(devices), list[_Worker]()
    tries = _Tries(1 + retries, Counter(), [], set())
    try:
        while True:
            waiting = [network for network in ready(networks, out) if tries.may_start(network)]
            while free and waiting:
                network = waiting.pop(0)
                workers.append(_start(context, network, out, free.pop(0), mode))
                tries.started[network.name] += 1
                tries.running.add(network.name)
                on_start(network)
            if not workers:
                return tries.failures
            wait([worker.process.sentinel for worker in workers], POLL_S)
            for worker in [w for w in workers if not w.process.is_alive()]:
                workers.remove(worker)
                free.append(worker.device)
                tries.running.discard(worker.network.name)
                failure = _failure(worker, out)
                if failure is None:
                    on_done(worker.network)
                    continue
                again = tries.again(worker.network, failure.died)
                if not again:
                    tries.failures.append(failure)
                note_failure(out / worker.network.name, failure.why)
                on_failure(failure, again)
            on_poll()
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()


def _fork_server() -> ForkServerContext:
    """Processes forked from one that has imported PyTorch and nothing else: quick, and no thread is lost."""
    context = multiprocessing.get_context("forkserver")
    # The main module too, or each process would import it anew.
    context.set_forkserver_preload(["__main__", "reproduce.warm"])
    # The server imports these modules before it is told our sys.path, so that it has to hear of it otherwise.
    with _python_path(Path(__file__).resolve().parent.parent):
        ensure_running()
    return context


@contextmanager
def _python_path(folder: Path) -> Iterator[None]:
    """Processes that are started inside look for modules in ``folder``, too."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _start(context: ForkServerContext, network: Network, out: Path, device: str, mode: Mode) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, out.resolve() / network.name, device, mode))
    process.start()
    theirs.close()
    return _Worker(network, process, ours, device)


def _work(connection: Connection, folder: Path, device: str, mode: Mode) -> None:
    """The body of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops us
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
    from reproduce.train_one import train

    try:
        train(folder, device, mode)
    except (CaffeCompatError, OSError) as error:
        connection.send(_explain(error, folder))
        sys.exit(WRONG_INPUT)
    except Exception:
        traceback.print_exc()  # a fault of ours: all of it, not squeezed into one line
        connection.send(f"{folder.name}: ended by an error of the program; its traceback stands above")
        sys.exit(1)


def _explain(error: Exception, folder: Path) -> str:
    """One line that names the file; a full disk has its cure."""
    system = error if isinstance(error, OSError) else error.__cause__
    text = f"{error.filename or folder}: {error.strerror}" if isinstance(error, OSError) else f"{folder.name}: {error}"
    full = isinstance(system, OSError) and system.errno == errno.ENOSPC
    return text + ("; free some space and run the same command again" if full else "")


def _end_with_parent(connection: Connection) -> None:
    """End this process with its parent: nothing is ever sent through the pipe, which closes when the parent ends."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)


def _failure(worker: _Worker, out: Path) -> Failure | None:
    """Why a process that has ended left no result; None when it left one."""
    if is_done(worker.network, out):
        return None
    code = worker.process.exitcode or 0
    if worker.connection.poll():
        with suppress(EOFError):
            return Failure(worker.network, worker.connection.recv(), code != WRONG_INPUT)
    what = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return Failure(worker.network, f"{out / worker.network.name}: the process of this network {what}", True)
