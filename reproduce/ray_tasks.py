"""Networks as tasks of a Ray cluster, whose machines share the run's folder."""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from caffe_compat.errors import DataError
from reproduce.lease import LEASE_S
from reproduce.mode import Mode
from reproduce.network import Network
from reproduce.runners import WAIT, Ended, Outcome, ended, is_done
from reproduce.stop_signals import LEAVE, StopSignals

_ROOT = Path(__file__).resolve().parent.parent
#: of networks that are handed to Ray at a time, where nobody says otherwise: it queues what has no place
MOST = 10_000


class RayTasks:
    """A ``Runner``: a task for each network, or for those that train side by side, with ``gpus`` of a GPU (0: the CPU)
    and ``mode.threads`` cores.

    ``address``: of the cluster, "auto" for the one that this machine is part of, "local" for one of this machine alone
    that ends with us.  DataError where there is no Ray, or no such cluster.
    """

    def __init__(
        self,
        out: Path,
        address: str,
        mode: Mode = Mode(),  # noqa: B008 (it is frozen)
        *,
        gpus: float = 0.0,
        most: int | None = None,
        lease_s: float = LEASE_S,
    ) -> None:
        self._ray = connect(address)
        self._out, self._mode, self._gpus, self._lease_s = out.resolve(), mode, gpus, lease_s
        self._most = most or MOST
        self._tasks: dict[Any, tuple[list[Network], int]] = {}  # and how many nodes were dead when it was started
        self._cancelled = set[Any]()
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        # Ray would run a task again by itself, but does not know of snapshots that others go on from; one process for
        # each network, as PyTorch's threads and the working directory are the process's.
        self._task = self._ray.remote(
            num_cpus=mode.threads,
            num_gpus=gpus,
            max_retries=0,
            max_calls=1,
            runtime_env={"env_vars": {"PYTHONPATH": path}},
        )(train_networks)

    def has_room(self) -> bool:
        """Whether one more may be handed to Ray."""
        return len(self._tasks) < self._most

    def start(self, networks: Sequence[Network]) -> None:
        """Hand the networks to Ray, which starts them where the resources of a task are free."""
        device = "cuda:0" if self._gpus else "cpu"  # the first of those that Ray lets the task see
        folders = [str(self._out / network.name) for network in networks]
        task = self._task.remote(folders, device, self._mode, self._lease_s)
        self._tasks[task] = (list(networks), self._dead_nodes())

    def ended(self, wait_s: float) -> list[Ended]:
        """Those whose tasks have ended, or were lost."""
        over, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=wait_s)
        return [network for task in over for network in self._what_became_of(task)]

    def leave(self) -> None:
        """Ask the tasks to leave: Ray interrupts them, and takes back those that have not begun."""
        for task in self._tasks.keys() - self._cancelled:
            self._cancelled.add(task)
            self._ray.cancel(task, force=False)

    def close(self) -> None:
        """Kill the tasks that are left, and part from the cluster."""
        for task in self._tasks:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(task, force=True)
        self._ray.shutdown()

    def _what_became_of(self, task: Any) -> list[Ended]:
        networks, dead_before = self._tasks.pop(task)
        errors = self._ray.exceptions
        try:
            outcomes = self._ray.get(task)
        except errors.TaskCancelledError:
            return [Ended(network, lost=True) for network in networks]
        except errors.RayError as error:
            why = " ".join(str(error).split())[:200]
            lost = isinstance(error, errors.NodeDiedError) or self._dead_nodes() > dead_before
            return [
                Ended(network)
                if is_done(network, self._out)
                else Ended(network, f"{network.name}: {why}", died=True, lost=lost)
                for network in networks
            ]
        return [ended(network, outcome) for network, outcome in zip(networks, outcomes, strict=True)]

    def _dead_nodes(self) -> int:
        return sum(not node["Alive"] for node in self._ray.nodes())


def train_networks(folders: Sequence[str], device: str, mode: Mode, lease_s: float) -> list[Outcome]:
    """The body of a task; returns what ``train_one.attempt`` does."""
    from reproduce.train_one import attempt

    # Ray's cancel is SIGINT, a machine that is taken away ends its processes with SIGTERM.
    with StopSignals((*LEAVE, signal.SIGINT)) as signals:
        paths, wait_s = [Path(folder) for folder in folders], WAIT * lease_s
        return attempt(paths, device, mode, lease_s=lease_s, wait_s=wait_s, asked_to_leave=signals.asked)


def connect(address: str) -> Any:
    """The module ``ray``, connected to a cluster."""
    try:
        import ray
    except ImportError:
        raise DataError(f"--ray {address}: Ray is not installed; run `pip install 'caffe-compat[ray]'`") from None
    try:
        ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f'--ray {address}: {reason}; expected a cluster\'s address, "auto" or "local"') from None
    return ray
