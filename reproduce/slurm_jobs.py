"""Networks as jobs of Slurm, through the library submitit."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caffe_compat.errors import DataError
from reproduce.lease import LEASE_S
from reproduce.mode import Mode
from reproduce.network import Network
from reproduce.runners import WAIT, Ended, Outcome, ended, is_done
from reproduce.stop_signals import StopSignals

#: in the run's folder: what submitit writes, and what the jobs print
FOLDER = "slurm"
MOST = 10_000
#: how often a job that ran out of time is put into the queue again
MOST_TIMEOUTS = 1000
#: states of a job that ended without a fault of its own
_LOST = ("NODE_FAIL", "PREEMPTED", "TIMEOUT", "CANCELLED", "REVOKED", "BOOT_FAIL", "DEADLINE")


class Training:
    """What a job runs: some networks, from their newest snapshots on.

    submitit ends a job whose time is over, or that is preempted, with a signal.  We note it, leave after a snapshot,
    and then let submitit's own handler have it, which puts the job into the queue again.
    """

    def __init__(self, folders: Sequence[Path], device: str, mode: Mode, lease_s: float) -> None:
        self.folders, self.device, self.mode, self.lease_s = folders, device, mode, lease_s

    def __call__(self) -> list[Outcome]:
        """Returns what ``train_one.attempt`` does."""
        from reproduce.train_one import attempt

        with StopSignals() as signals:
            outcomes = attempt(
                self.folders,
                self.device,
                self.mode,
                lease_s=self.lease_s,
                wait_s=WAIT * self.lease_s,
                asked_to_leave=signals.asked,
            )
        if signals.seen and callable(signal.getsignal(signals.seen)):
            os.kill(os.getpid(), signals.seen)
            time.sleep(0.1)  # the handler runs, and does not come back where it puts the job into the queue
        return outcomes

    def checkpoint(self) -> Any:
        """What submitit runs when the job is started again: the same."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


class SlurmJobs:
    """A ``Runner``: each network, or those that train side by side, is a job.

    ``settings``: as options of sbatch, {"partition": "gpu", "time": "240", "gpus_per_node": "1"}; ``time`` in minutes.
    ``cluster``: submitit's name for where jobs run; "local" is for tests.  DataError for what is not there, or wrong.
    """

    def __init__(
        self,
        out: Path,
        settings: Mapping[str, str],
        mode: Mode = Mode(),  # noqa: B008 (it is frozen)
        *,
        gpu: bool = False,
        most: int | None = None,
        lease_s: float = LEASE_S,
        cluster: str = "slurm",
    ) -> None:
        self._out, self._mode, self._lease_s = out.resolve(), mode, lease_s
        self._device, self._most = "cuda:0" if gpu else "cpu", most or MOST
        self._jobs: list[tuple[list[Network], Any]] = []
        self._executor = _executor(self._out / FOLDER, parameters(settings, mode, cluster), cluster)

    def has_room(self) -> bool:
        """Whether one more job may be put into the queue."""
        return len(self._jobs) < self._most

    def start(self, networks: Sequence[Network]) -> None:
        """Put a job into the queue."""
        folders = [self._out / network.name for network in networks]
        training = Training(folders, self._device, self._mode, self._lease_s)
        self._jobs.append((list(networks), self._executor.submit(training)))

    def ended(self, wait_s: float) -> list[Ended]:
        """Those whose jobs have ended; one that was put into the queue again has not."""
        time.sleep(wait_s)
        over = [pair for pair in self._jobs if pair[1].done()]
        self._jobs = [pair for pair in self._jobs if pair not in over]
        return [network for networks, job in over for network in self._what_became_of(networks, job)]

    def leave(self) -> None:
        """Jobs need us no more: they go on, and those that wait will start."""
        self._jobs = []

    def close(self) -> None:
        """The same."""
        self._jobs = []

    def _what_became_of(self, networks: Sequence[Network], job: Any) -> list[Ended]:
        error = job.exception()
        if error is None:
            return [ended(network, outcome) for network, outcome in zip(networks, job.result(), strict=True)]
        reason = (str(error).strip() or "no reason").splitlines()[-1][:200]
        lost = any(job.state.startswith(state) for state in _LOST)
        return [
            Ended(network)
            if is_done(network, self._out)
            else Ended(network, f"{network.name}: Slurm's job {job.job_id}: {reason}", died=True, lost=lost)
            for network in networks
        ]


def parameters(settings: Mapping[str, str], mode: Mode, cluster: str) -> dict[str, Any]:
    """What submitit's executor is told: our threads, one task, and what the user says of the rest."""
    known: dict[str, Any] = {"cpus_per_task": mode.threads, "name": "caffe_compat"}
    for name, value in settings.items():
        if name == "time" and not value.isdigit():
            raise DataError(f'--slurm time={value}: expected whole minutes, as "240"')
        number = int(value) if value.isdigit() else value
        same = {"time": "timeout_min", "nodes": "nodes", "gpus_per_node": "gpus_per_node", "cpus_per_task": name}
        known[same.get(name, name if cluster == "local" else f"slurm_{name}")] = number
    return known


def _executor(folder: Path, known: Mapping[str, Any], cluster: str) -> Any:
    try:
        import submitit
    except ImportError:
        raise DataError("--slurm: submitit is not installed; run `pip install 'caffe-compat[slurm]'`") from None
    try:
        keywords = {f"{cluster}_max_num_timeout": MOST_TIMEOUTS}
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster, **keywords)
        executor.update_parameters(**known)
    except (ValueError, RuntimeError, NameError, TypeError) as error:
        raise DataError(f"--slurm: {' '.join(str(error).split())[:300]}") from None
    return executor
