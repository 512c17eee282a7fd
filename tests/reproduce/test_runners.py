"""Which networks can be trained next, what becomes of those that fail, and what is left to others."""

import multiprocessing
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from reproduce import runners
from reproduce.lease import Lease
from reproduce.local_processes import LocalProcesses
from reproduce.network import Network
from reproduce.plan import split_networks
from reproduce.runners import (
    Ended,
    Failure,
    LeftEarly,
    NetworksFailed,
    Outcome,
    Told,
    ended,
    is_done,
    ready,
    train_networks,
)
from tests.reproduce.test_train_one import small_run


def test_a_network_is_ready_when_its_base_is_done(tmp_path: Path) -> None:
    networks = split_networks("0", ["base", "AnB", "random"], [1])
    assert [n.name for n in ready(networks, tmp_path)] == ["half0A", "half0B", "nolearn_1_1"]
    (tmp_path / "half0B").mkdir()
    (tmp_path / "half0B" / "done").touch()
    assert is_done(networks[1], tmp_path)
    assert [n.name for n in ready(networks, tmp_path)] == ["half0A", "transfer0B0A_1_1", "nolearn_1_1"]


def test_a_network_that_fails_ends_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose file is wrong is not tried again; one whose process is killed is; the healthy one is trained."""
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    networks = split_networks("0", ["base", "AnB", "random"], [7])
    wrong, healthy, waits, _, killed = networks
    small_run([healthy, killed], tmp_path)
    (tmp_path / wrong.name).mkdir()
    (tmp_path / wrong.name / "failed").write_text("an earlier reason")
    said: list[tuple[str, bool]] = []

    def kill(network: Network) -> None:
        if network == killed:
            child = max(multiprocessing.active_children(), key=lambda process: process.pid or 0)
            os.kill(child.pid or 0, signal.SIGKILL)

    failures = train_networks(
        [wrong, healthy, waits, killed],
        tmp_path,
        LocalProcesses(tmp_path, ["cpu"]),
        retries=1,
        told=Told(start=kill, failure=lambda failure, again: said.append((failure.network.name, again))),
    )
    assert said == [(wrong.name, False), (killed.name, True), (killed.name, False)]
    assert [(failure.network, failure.died) for failure in failures] == [(wrong, False), (killed, True)]
    assert is_done(healthy, tmp_path)
    assert re.search(r"half0A: .*solver\.prototxt: cannot be read", failures[0].why)
    assert failures[1].why.endswith("nolearn_1_7: the process of this network was killed by signal 9")
    for failure in failures:
        assert failure.why in (tmp_path / failure.network.name / "failed").read_text()
    assert os.environ["PYTHONPATH"] == "/somewhere"
    error = NetworksFailed(failures, 1, tmp_path)
    assert str(error).startswith(f"{tmp_path}: 2 networks failed, 1 more wait for them: half0A: ")
    assert str(error).endswith("(and 1 more, named above); run the same command again to try them again and continue")


class StandIn:
    """A runner without processes: each start ends as the next of ``ends`` of its network says, a function or a code."""

    def __init__(self, out: Path, ends: dict[str, list[int]], room: int = 2) -> None:
        self.out, self.ends, self.room = out, ends, room
        self.running = list[Network]()
        self.started = list[str]()
        self.left = self.closed = 0

    def has_room(self) -> bool:
        return len(self.running) < self.room

    def start(self, networks: Sequence[Network]) -> None:
        self.started += [network.name for network in networks]
        self.running += networks

    def ended(self, wait_s: float) -> list[Ended]:
        over, self.running = self.running, []
        return [self._end(network) for network in over]

    def _end(self, network: Network) -> Ended:
        code = self.ends.get(network.name, []).pop(0) if self.ends.get(network.name) else runners.TRAINED
        if code == runners.TRAINED:
            finish(network, self.out)
            return Ended(network)
        return Ended(network, "gone", lost=True) if code == LOST else ended(network, Outcome(code, f"code {code}"))

    def leave(self) -> None:
        self.left += 1

    def close(self) -> None:
        self.closed += 1


LOST = 99


def finish(network: Network, out: Path) -> None:
    (out / network.name / "done").touch()


def prepared(out: Path) -> list[Network]:
    networks = split_networks("0", ["base", "AnB"], [1])
    for network in networks:
        (out / network.name).mkdir()
    return networks


def test_each_way_to_end(tmp_path: Path) -> None:
    """Lost with its machine, left, trained elsewhere: as often as it takes.  Died: as often as allowed."""
    networks = prepared(tmp_path)
    ends = [LOST, runners.LEFT, runners.ELSEWHERE, runners.FAULT, LOST, runners.FAULT]
    runner = StandIn(tmp_path, {"half0A": ends, "half0B": [runners.WRONG_INPUT, runners.FAULT]})
    said: list[tuple[str, str, bool]] = []
    done: list[str] = []
    told = Told(
        done=lambda network: done.append(network.name),
        failure=lambda failure, again: said.append((failure.network.name, failure.why, again)),
    )
    failures = train_networks(networks, tmp_path, runner, retries=2, told=told)
    assert said == [("half0B", "code 2", False), ("half0A", "code 1", True), ("half0A", "code 1", True)]
    assert failures == [Failure(networks[1], "code 2", died=False)]
    assert done == ["half0A", "transfer0A0B_1_1"]
    assert runner.started == ["half0A", "half0B"] + ["half0A"] * 6 + ["transfer0A0B_1_1"]
    assert "code 2" in (tmp_path / "half0B" / "failed").read_text()
    assert runner.closed == 1


def test_networks_of_the_same_images_start_together(tmp_path: Path) -> None:
    """As many as may, without those that another run trains."""
    networks = split_networks("0", ["base", "AnB", "BnB"], [1, 2, 3])
    for network in networks:
        (tmp_path / network.name).mkdir()
    for network in networks[:2]:
        finish(network, tmp_path)
    started = list[list[str]]()

    class Groups(StandIn):
        def start(self, networks: Sequence[Network]) -> None:
            started.append([network.name.removeprefix("transfer0") for network in networks])
            super().start(networks)

    with Lease(tmp_path / "transfer0A0B_1_2"):
        runner = Groups(tmp_path, {}, room=100)
        other = next(network for network in networks if network.name == "transfer0A0B_1_2")
        told = Told(start=lambda network: finish(other, tmp_path))
        assert train_networks(networks, tmp_path, runner, together=2, told=told) == []
    assert sorted(started) == [
        ["A0A_1_1", "A0A_1_2"],
        ["A0A_1_3"],
        ["A0B_1_1"],
        ["A0B_1_3"],
        ["B0A_1_1", "B0A_1_2"],
        ["B0A_1_3"],
        ["B0B_1_1", "B0B_1_2"],
        ["B0B_1_3"],
    ]


def test_what_another_run_trains_is_waited_for_and_taken_over_when_it_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = prepared(tmp_path)
    theirs = [Lease(tmp_path / name) for name in ("half0A", "half0B")]
    waits: list[float] = []

    def others_go_on(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:  # one of theirs ends as it should, one is lost
            finish(networks[0], tmp_path)
            theirs[0].release()
        elif len(waits) == 3:
            theirs[1].release()

    monkeypatch.setattr(time, "sleep", others_go_on)
    runner, done = StandIn(tmp_path, {}), list[str]()
    assert train_networks(networks, tmp_path, runner, told=Told(done=lambda network: done.append(network.name))) == []
    assert runner.started == ["transfer0A0B_1_1", "half0B", "transfer0B0A_1_1"]
    assert done == ["half0A", "transfer0A0B_1_1", "half0B", "transfer0B0A_1_1"]
    assert len(waits) == 3


def test_what_failed_here_and_was_trained_elsewhere_is_no_failure(tmp_path: Path) -> None:
    networks = prepared(tmp_path)[:2]
    runner = StandIn(tmp_path, {"half0A": [runners.FAULT]}, room=1)
    told = Told(start=lambda network: finish(networks[0], tmp_path) if network == networks[1] else None)
    assert train_networks(networks, tmp_path, runner, told=told) == []


def test_a_signal_to_leave(tmp_path: Path) -> None:
    networks = prepared(tmp_path)
    runner = StandIn(tmp_path, {"half0A": [runners.LEFT], "half0B": [runners.TRAINED]})
    came: list[int] = []
    told = Told(start=lambda network: came.append(int(signal.SIGUSR1)))
    with pytest.raises(LeftEarly) as error:
        train_networks(networks, tmp_path, runner, told=told, signal_to_leave=lambda: came[0] if len(came) > 1 else 0)
    assert str(error.value) == (
        f"{tmp_path}: left at signal 10, after snapshots of 1 network; run the same command again to continue"
    )
    assert error.value.signal_number == 10
    assert runner.started == ["half0A", "half0B"]
    assert runner.closed == 1
