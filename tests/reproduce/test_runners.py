"""Which networks can be trained next, and what workers leave in this process: nothing."""

import multiprocessing
import os
import re
import signal
from pathlib import Path

import pytest

from reproduce.network import Network
from reproduce.plan import split_networks
from reproduce.runners import NetworksFailed, is_done, ready, run_local
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

    failures = run_local(
        [wrong, healthy, waits, killed],
        tmp_path,
        ["cpu"],
        retries=1,
        on_start=kill,
        on_failure=lambda failure, again: said.append((failure.network.name, again)),
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
