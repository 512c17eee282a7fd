"""Processes of this machine: which device each gets, and how they end."""

import os
import signal
import time
from pathlib import Path

import pytest

from reproduce import local_processes
from reproduce.lease import Lease
from reproduce.local_processes import LocalProcesses, _fork_server, _ignoring_signals
from reproduce.network import Network
from reproduce.plan import split_networks
from reproduce.runners import Ended, is_done
from tests.reproduce.test_train_one import small_run

TIMEOUT_S = 300


def wait_for(runner: LocalProcesses) -> Ended:
    deadline = time.monotonic() + TIMEOUT_S
    while not (over := runner.ended(1.0)):
        assert time.monotonic() < deadline
    return over[0]


def test_devices_are_shared_out_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs with two networks on each, where a stand-in notes the device and does no more."""
    started: list[str] = []

    class Process:
        def __init__(self, target: object, args: tuple[object, ...]) -> None:
            started.append(str(args[2]))
            self.exitcode = 0
            self.sentinel, self._end = os.pipe()
            os.close(self._end)  # it ends at once

        def start(self) -> None: ...

        def is_alive(self) -> bool:
            return False

    context = _fork_server()
    monkeypatch.setattr(context, "Process", Process, raising=False)
    monkeypatch.setattr(local_processes, "_fork_server", lambda: context)
    networks = [
        *split_networks("0", ["base"], [1]),
        *split_networks("1", ["base"], [1]),
        *split_networks("2", ["base"], [1]),
    ]
    runner = LocalProcesses(tmp_path, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"])
    for network in networks[:4]:
        assert runner.has_room()
        runner.start([network])
    assert not runner.has_room()
    assert started == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    ended = runner.ended(0.0)
    assert [e.network for e in ended] == networks[:4]
    assert all(e.died and e.why.endswith("the process of this network ended with code 0") for e in ended)
    runner.start([networks[4]])
    assert started[4:] == ["cuda:0"]


def test_asked_to_leave_it_writes_a_snapshot_and_goes_on_from_it(tmp_path: Path) -> None:
    network: Network = split_networks("0", ["base"], [1])[0]
    small_run([network], tmp_path, iterations=2000)
    folder = tmp_path / network.name
    runner = LocalProcesses(tmp_path, ["cpu"])
    runner.start([network])
    deadline = time.monotonic() + TIMEOUT_S
    while not (folder / "train.jsonl").exists() or '"train"' not in (folder / "train.jsonl").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    runner.leave()
    ended = wait_for(runner)
    assert ended.left
    assert not ended.died
    iteration = int(ended.why.removeprefix("half0A: left at iteration ").split(",")[0])
    assert (folder / f"caffe_train_iter_{iteration}.solverstate").exists()
    runner.close()


def test_a_network_that_another_trains_is_left_to_it(tmp_path: Path) -> None:
    network = split_networks("0", ["base"], [1])[0]
    small_run([network], tmp_path)
    runner = LocalProcesses(tmp_path, ["cpu"])
    with Lease(tmp_path / network.name):
        runner.start([network])
        ended = wait_for(runner)
    assert ended.elsewhere
    assert f"process {os.getpid()} works here" in ended.why
    runner.start([network])
    assert wait_for(runner) == Ended(network)
    assert is_done(network, tmp_path)
    runner.close()


def test_the_fork_server_outlives_a_signal_to_the_group() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with _ignoring_signals():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) == before
