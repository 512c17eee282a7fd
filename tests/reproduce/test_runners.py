"""Which networks can be trained next, and what workers leave in this process: nothing."""

import os
from pathlib import Path

import pytest

from caffe_compat.errors import SolverError
from reproduce.network import Network
from reproduce.plan import split_networks
from reproduce.runners import is_done, ready, run_local


def test_a_network_is_ready_when_its_base_is_done(tmp_path: Path) -> None:
    networks = split_networks("0", ["base", "AnB", "random"], [1])
    assert [n.name for n in ready(networks, tmp_path)] == ["half0A", "half0B", "nolearn_1_1"]
    (tmp_path / "half0B").mkdir()
    (tmp_path / "half0B" / "done").touch()
    assert is_done(networks[1], tmp_path)
    assert [n.name for n in ready(networks, tmp_path)] == ["half0A", "transfer0B0A_1_1", "nolearn_1_1"]


def test_an_error_of_a_worker_is_raised_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    (tmp_path / "half0A").mkdir()
    started: list[Network] = []
    with pytest.raises(SolverError, match=r"half0A: .*solver\.prototxt: cannot be read"):
        run_local(split_networks("0", ["base"])[:1], tmp_path, ["cpu"], on_start=started.append)
    assert [network.name for network in started] == ["half0A"]
    assert os.environ["PYTHONPATH"] == "/somewhere"
