"""Requests to stop or to snapshot, in training and while testing."""

import io
import itertools
from pathlib import Path

import pytest

from caffe_compat.solver import Log
from caffe_compat.solver.parallel import SINGLE, Parallel
from caffe_compat.solver.requests import Requests
from tests.solver.conftest import MakeSolver, messages


def test_stop_and_snapshot_requests(make_solver: MakeSolver) -> None:
    answers = iter(["none", "snapshot", "none", "stop"])
    solver = make_solver(snapshot=0, test_interval=0, test_iter=[], max_iter=100)
    solver.set_action_function(lambda: next(answers))
    solver.solve()
    assert solver.iter == 4
    assert Path("snap_iter_2.solverstate").exists()
    assert Path("snap_iter_4.solverstate").exists()  # snapshot_after_train


def test_stop_while_testing(make_solver: MakeSolver) -> None:
    stream = io.StringIO()
    solver = make_solver(log=Log(stream), max_iter=100)
    solver.set_action_function(itertools.chain(["none", "stop"], itertools.repeat("none")).__next__)
    solver.solve()
    assert messages(stream)[-2:] == ["Test interrupted.", "Optimization stopped early."]
    assert solver.iter == 0


@pytest.mark.parametrize(
    ("action", "due", "snapshots", "stopping"),
    [("none", False, 0, False), ("none", True, 1, False), ("snapshot", False, 1, False), ("snapshot", True, 1, False),
     ("stop", False, 0, True), ("stop", True, 1, True)],
)  # fmt: skip
def test_answers_after_an_iteration(action: str, due: bool, snapshots: int, stopping: bool) -> None:
    written: list[int] = []
    requests = Requests(SINGLE, lambda: written.append(1))
    requests.action = lambda: action
    requests.answer(snapshot_due=due)
    assert (len(written), requests.stopping) == (snapshots, stopping)


def test_all_pending_requests_are_answered_while_testing() -> None:
    written: list[int] = []
    requests = Requests(SINGLE, lambda: written.append(1))
    assert not requests.answer_while_testing()
    requests.action = iter(["snapshot", "stop", "snapshot", "none"]).__next__
    assert requests.answer_while_testing()
    assert len(written) == 2


def test_several_processes_answer_together_after_the_iteration() -> None:
    requests = Requests(Parallel(0, 2), lambda: None)
    requests.action = lambda: "stop"
    assert not requests.answer_while_testing()
    assert not requests.stopping
