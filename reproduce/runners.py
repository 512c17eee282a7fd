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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.forkserver import ensure_running
from pathlib import Path

from caffe_compat.errors import CaffeCompatError, SolverError
from reproduce.mode import Mode
from reproduce.network import Network

DONE = "done"  # the file that train_one leaves in a finished network's folder
POLL_S = 0.5


def is_done(network: Network, out: Path) -> bool:
    """Whether the network has been trained to its end."""
    return (out / network.name / DONE).exists()


def ready(networks: Sequence[Network], out: Path) -> list[Network]:
    """Those that are not done and whose base network is, in the plan's order."""
    done = {network.name for network in networks if is_done(network, out)}
    return [n for n in networks if n.name not in done and (not n.base_network or n.base_network in done)]


class WorkerDied(CaffeCompatError):
    """A network's process ended without saying why: it was killed, or was out of memory."""


@dataclass
class _Worker:
    network: Network
    process: ForkServerProcess
    connection: Connection
    device: str


def run_local(
    networks: Sequence[Network],
    out: Path,
    devices: Sequence[str],
    mode: Mode = Mode(),  # noqa: B008 (it is frozen)
    *,
    on_start: Callable[[Network], None] = lambda network: None,
    on_done: Callable[[Network], None] = lambda network: None,
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    """Train on this machine, one process per entry of ``devices`` ("cpu", "cuda:0"; repeat to share one).

    The callbacks run in this process.  Raises the first error of a network as SolverError, or
    WorkerDied, after stopping the others; what they have saved is used when the run is started again.
    """
    context = _fork_server()
    free, workers = list(devices), list[_Worker]()
    started = set[str]()
    try:
        while True:
            waiting = [network for network in ready(networks, out) if network.name not in started]
            while free and waiting:
                network = waiting.pop(0)
                workers.append(_start(context, network, out, free.pop(0), mode))
                started.add(network.name)
                on_start(network)
            if not workers:
                return
            wait([worker.process.sentinel for worker in workers], POLL_S)
            for worker in [w for w in workers if not w.process.is_alive()]:
                workers.remove(worker)
                _check(worker, out)
                free.append(worker.device)
                on_done(worker.network)
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
        sys.exit(2)
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


def _check(worker: _Worker, out: Path) -> None:
    if is_done(worker.network, out):
        return
    if worker.connection.poll():
        try:
            raise SolverError(worker.connection.recv())
        except EOFError:
            pass
    code = worker.process.exitcode or 0
    what = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    raise WorkerDied(
        f"{out / worker.network.name}: the process of this network {what}; run the same command again to continue"
    )
