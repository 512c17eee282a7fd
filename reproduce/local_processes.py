"""Networks in processes of this machine: several devices, several processes on each."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.forkserver import ensure_running
from pathlib import Path

from reproduce.lease import LEASE_S
from reproduce.mode import Mode
from reproduce.network import Network
from reproduce.runners import FAULT, Ended, Outcome, ended, is_done
from reproduce.stop_signals import LEAVE, StopSignals


@dataclass
class _Worker:
    networks: list[Network]
    process: ForkServerProcess
    connection: Connection
    device: str


class LocalProcesses:
    """A ``Runner``: one process for each entry of ``devices`` ("cpu", "cuda:0"; repeat one to share it)."""

    def __init__(
        self,
        out: Path,
        devices: Sequence[str],
        mode: Mode = Mode(),  # noqa: B008 (it is frozen)
        lease_s: float = LEASE_S,
    ) -> None:
        self._out, self._free, self._mode, self._lease_s = out, list(devices), mode, lease_s
        self._workers = list[_Worker]()
        self._context = _fork_server()

    def has_room(self) -> bool:
        """Whether a device has a place."""
        return bool(self._free)

    def start(self, networks: Sequence[Network]) -> None:
        """Start a process on the first device that has a place."""
        device = self._free.pop(0)
        ours, theirs = self._context.Pipe()
        folders = [self._out.resolve() / network.name for network in networks]
        process = self._context.Process(target=_work, args=(theirs, folders, device, self._mode, self._lease_s))
        process.start()
        theirs.close()
        self._workers.append(_Worker(list(networks), process, ours, device))

    def ended(self, wait_s: float) -> list[Ended]:
        """Those whose processes have ended."""
        wait([worker.process.sentinel for worker in self._workers], wait_s)
        over = [worker for worker in self._workers if not worker.process.is_alive()]
        for worker in over:
            self._workers.remove(worker)
            self._free.append(worker.device)
        return [network for worker in over for network in _what_became_of(worker, self._out)]

    def leave(self) -> None:
        """SIGTERM for all."""
        for worker in self._workers:
            with suppress(ProcessLookupError):
                worker.process.terminate()

    def close(self) -> None:
        """Kill all that are there."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()


def _fork_server() -> ForkServerContext:
    """Processes forked from one that has imported PyTorch and nothing else: quick, and no thread is lost."""
    context = multiprocessing.get_context("forkserver")
    # The main module too, or each process would import it anew.
    context.set_forkserver_preload(["__main__", "reproduce.warm"])
    # The server imports these modules before it is told our sys.path, so that it has to hear of it otherwise.  It must
    # outlive a signal to the whole group: by it we hear what became of the processes.
    with _python_path(Path(__file__).resolve().parent.parent), _ignoring_signals():
        ensure_running()
    return context


@contextmanager
def _ignoring_signals() -> Iterator[None]:
    """Processes that are started inside ignore what asks to leave, until they say otherwise."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in LEAVE}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def _work(connection: Connection, folders: Sequence[Path], device: str, mode: Mode, lease_s: float) -> None:
    """The body of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops us
    with StopSignals() as signals:
        threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
        from reproduce.train_one import attempt

        connection.send(attempt(folders, device, mode, lease_s=lease_s, asked_to_leave=signals.asked))


def _end_with_parent(connection: Connection) -> None:
    """End this process with its parent: nothing is ever sent through the pipe, which closes when the parent ends."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)


def _what_became_of(worker: _Worker, out: Path) -> list[Ended]:
    """What became of the networks of a process that has ended."""
    code, outcomes = worker.process.exitcode or 0, list[Outcome]()
    if worker.connection.poll():
        with suppress(EOFError):
            outcomes = worker.connection.recv()
    worker.connection.close()
    if not outcomes:
        what = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        outcomes = [
            Outcome(FAULT, f"{out / network.name}: the process of this network {what}") for network in worker.networks
        ]
    return [
        Ended(network) if is_done(network, out) else ended(network, outcome)
        for network, outcome in zip(worker.networks, outcomes, strict=True)
    ]
