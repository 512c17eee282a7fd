"""One process for each device."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from caffe_compat.errors import SolverError
from caffe_compat.solver.launch import launch, set_environment


def say_rank(words: list[str]) -> None:
    """What the launched processes run."""
    dist.init_process_group("gloo")
    ranks = torch.tensor(float(os.environ["RANK"]))
    dist.all_reduce(ranks)
    Path(f"rank_{os.environ['RANK']}").write_text(os.environ["WORLD_SIZE"] + words[0] + f" {ranks:g}")
    dist.destroy_process_group()
    sys.exit(3 if os.environ["RANK"] == "1" else 0)


@pytest.mark.slow
def test_launch_sets_ranks_and_returns_the_failed_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert launch(say_rank, (["x"],), 2) == 3
    assert Path("rank_1").read_text() == "2x 1"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_is_killed_is_named() -> None:
    with pytest.raises(SolverError, match=r"^process 0 of 1 was ended by SIGKILL$"):
        launch(die, (), 1)


def test_environment_of_a_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    set_environment(1, 4, 29999)
    expected = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999"}
    assert {name: os.environ[name] for name in expected} == expected
    assert os.environ["TORCHELASTIC_USE_AGENT_STORE"] == "True"
