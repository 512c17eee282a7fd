"""Networks as jobs of Slurm: what submitit is told, what becomes of a job, and one that is preempted."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from caffe_compat.errors import DataError
from reproduce import slurm_jobs
from reproduce.lease import holder
from reproduce.mode import Mode
from reproduce.plan import split_networks
from reproduce.runners import LEFT, Ended, Outcome, train_networks
from reproduce.slurm_jobs import SlurmJobs, parameters
from tests.reproduce.test_train_one import small_run

NETWORK = split_networks("0", ["base"], [1])[0]


def test_options_of_sbatch_go_to_submitit() -> None:
    settings = {"partition": "gpu", "time": "240", "gpus_per_node": "1", "account": "vision"}
    assert parameters(settings, Mode(threads=4), "slurm") == {
        "cpus_per_task": 4,
        "name": "caffe_compat",
        "slurm_partition": "gpu",
        "timeout_min": 240,
        "gpus_per_node": 1,
        "slurm_account": "vision",
    }
    with pytest.raises(DataError, match='--slurm time=4:00:00: expected whole minutes, as "240"'):
        parameters({"time": "4:00:00"}, Mode(), "slurm")


def test_no_slurm_and_no_submitit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DataError, match='--slurm: Could not detect "srun"'):
        SlurmJobs(tmp_path, {})
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(
        DataError, match=r"--slurm: submitit is not installed; run `pip install 'caffe-compat\[slurm\]'`"
    ):
        SlurmJobs(tmp_path, {})


def test_what_becomes_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [
        SimpleNamespace(job_id="1", state="FAILED", done=lambda: True, exception=lambda: ValueError("one\ntwo")),
        SimpleNamespace(job_id="2", state="NODE_FAIL", done=lambda: True, exception=lambda: ValueError("gone")),
        SimpleNamespace(job_id="3", done=lambda: True, exception=lambda: None, result=lambda: [Outcome(LEFT, "left")]),
        SimpleNamespace(job_id="4", done=lambda: False),
    ]
    queue = list(jobs)
    monkeypatch.setattr(slurm_jobs, "_executor", lambda *_: SimpleNamespace(submit=lambda training: queue.pop(0)))
    runner = SlurmJobs(tmp_path, {}, most=4)
    for _ in jobs:
        assert runner.has_room()
        runner.start([NETWORK])
    assert not runner.has_room()
    assert runner.ended(0.0) == [
        Ended(NETWORK, "half0A: Slurm's job 1: two", died=True),
        Ended(NETWORK, "half0A: Slurm's job 2: gone", died=True, lost=True),
        Ended(NETWORK, "left", left=True),
    ]
    assert runner.ended(0.0) == []


@pytest.mark.slow
def test_a_preempted_job_is_put_into_the_queue_again_and_goes_on(tmp_path: Path) -> None:
    """In submitit's own executor for this machine, which starts a job again as Slurm would."""
    small_run([NETWORK], tmp_path, iterations=300)
    folder = tmp_path / "half0A"
    runner = SlurmJobs(tmp_path, {"time": "10"}, cluster="local")
    preempted: list[int] = []

    def preempt() -> int:
        trains = holder(folder) if not preempted and list(folder.glob("*.solverstate")) else None
        if trains:
            preempted.append(trains.process)
            os.kill(trains.process, signal.SIGUSR2)
        return 0

    assert train_networks([NETWORK], tmp_path, runner, signal_to_leave=preempt) == []
    assert len(preempted) == 1
    assert (folder / "train.jsonl").read_text().count('"start"') == 2
    assert "Optimization stopped early." in (folder / "train.log").read_text()
    assert "Requeued job" in "".join(file.read_text() for file in (tmp_path / "slurm").glob("*_log.*"))
