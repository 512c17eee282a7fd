"""Networks as tasks of a Ray cluster: resources, and what becomes of a task.  Real clusters: tests/ray_cluster.py."""

from pathlib import Path
from typing import Any

import pytest

from caffe_compat.errors import DataError
from reproduce import ray_tasks
from reproduce.mode import Mode
from reproduce.plan import split_networks
from reproduce.ray_tasks import RayTasks, connect
from reproduce.runners import LEFT, Ended, Outcome


class RayError(Exception): ...


class NodeDiedError(RayError): ...


class TaskCancelledError(RayError): ...


class StandIn:
    """What we use of the module ray; a task's outcome is a value or an error."""

    class exceptions:
        RayError, NodeDiedError, TaskCancelledError = RayError, NodeDiedError, TaskCancelledError

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.outcomes: list[Any] = []
        self.cancelled: list[tuple[Any, bool]] = []
        self.alive = [True, True]

    def remote(self, **options: Any) -> Any:
        self.options = options
        return lambda function: self

    # the decorated function's own .remote(...) is another one; told apart by its arguments
    def __getattribute__(self, name: str) -> Any:
        if name == "remote" and object.__getattribute__(self, "options"):
            return object.__getattribute__(self, "call")
        return object.__getattribute__(self, name)

    def call(self, *arguments: Any) -> str:
        self.calls.append(arguments)
        return f"task{len(self.calls)}"

    def wait(self, tasks: list[str], num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        return tasks[:1], tasks[1:]

    def get(self, task: str) -> Any:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def cancel(self, task: str, force: bool) -> None:
        self.cancelled.append((task, force))

    def nodes(self) -> list[dict[str, bool]]:
        return [{"Alive": alive} for alive in self.alive]

    def shutdown(self) -> None: ...


def test_what_a_task_asks_for_and_what_becomes_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = StandIn()
    monkeypatch.setattr(ray_tasks, "connect", lambda address: ray)
    mode = Mode(threads=3)
    network = split_networks("0", ["base"], [1])[0]
    runner = RayTasks(tmp_path, "auto", mode, gpus=0.25, most=1, lease_s=7.0)
    assert {name: ray.options[name] for name in ("num_cpus", "num_gpus", "max_retries", "max_calls")} == {
        "num_cpus": 3,
        "num_gpus": 0.25,
        "max_retries": 0,
        "max_calls": 1,
    }
    ends = [[Outcome(LEFT, "left")], RayError("the worker\n crashed"), NodeDiedError(""), TaskCancelledError()]
    expected = [
        Ended(network, "left", left=True),
        Ended(network, "half0A: the worker crashed", died=True),
        Ended(network, "half0A: ", died=True, lost=True),
        Ended(network, lost=True),
    ]
    for outcome, end in zip(ends, expected, strict=True):
        assert runner.has_room()
        runner.start([network])
        assert not runner.has_room()
        ray.outcomes = [outcome]
        assert runner.ended(0.0) == [end]
    assert ray.calls[0] == ([str(tmp_path / "half0A")], "cuda:0", mode, 7.0)
    runner.start([network])
    ray.alive[1], ray.outcomes = False, [RayError("gone")]
    assert runner.ended(0.0)[0].lost  # its machine may be the one that has died meanwhile
    runner.start([network])
    runner.leave()
    runner.leave()
    assert ray.cancelled == [("task6", False)]
    runner.close()
    assert ray.cancelled[1:] == [("task6", True)]


def test_no_ray_and_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(DataError, match=r"--ray auto: Ray is not installed; run `pip install 'caffe-compat\[ray\]'`"):
        connect("auto")
