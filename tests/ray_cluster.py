"""A Ray cluster of several machines, as processes of this one, of which one is killed: `make test-ray`, half a minute.

    python -m pytest tests/ray_cluster.py

Needs the extra ``ray``; the rest of the tests does without (tests/reproduce/test_ray_tasks.py has a stand-in).
"""

from pathlib import Path

import pytest

from reproduce.lease import holder
from reproduce.local_processes import LocalProcesses
from reproduce.plan import split_networks
from reproduce.ray_tasks import RayTasks
from reproduce.runners import Told, train_networks
from tests.reproduce.test_train_one import small_run

ITERATIONS = 150


def test_a_machine_is_killed_and_its_network_goes_on_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its snapshot, with the bits of a run that was not disturbed."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    networks = split_networks("0", ["base"], [1])[:1]
    for out in (tmp_path / "ray", tmp_path / "here"):
        small_run(networks, out, iterations=ITERATIONS)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    first = cluster.add_node(num_cpus=1)
    folder = tmp_path / "ray" / "half0A"
    said: list[str] = []

    def kill_once() -> None:
        if not said and list(folder.glob("*.solverstate")) and holder(folder):
            said.append("killed")
            cluster.remove_node(first, allow_graceful=False)
            cluster.add_node(num_cpus=1)

    def put_back(network: object) -> None:
        said.append("put back")

    try:
        runner = RayTasks(tmp_path / "ray", cluster.address)
        told = Told(poll=kill_once, put_back=put_back)
        assert train_networks(networks, tmp_path / "ray", runner, told=told) == []
    finally:
        cluster.shutdown()
    assert said == ["killed", "put back"]
    assert (folder / "train.jsonl").read_text().count('"start"') == 2
    train_networks(networks, tmp_path / "here", LocalProcesses(tmp_path / "here", ["cpu"]))
    name = f"caffe_train_iter_{ITERATIONS}.caffemodel"
    assert (folder / name).read_bytes() == (tmp_path / "here" / "half0A" / name).read_bytes()
