"""One process for each device."""

import os
import socket
import sys
from pathlib import Path

import pytest

from caffe_compat.solver.launch import free_port, launch, set_environment


def say_rank(words: list[str]) -> None:
    """What the launched processes run."""
    Path(f"rank_{os.environ['RANK']}").write_text(os.environ["WORLD_SIZE"] + words[0])
    sys.exit(3 if os.environ["RANK"] == "1" else 0)


@pytest.mark.slow
def test_launch_sets_ranks_and_returns_the_failed_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert launch(say_rank, (["x"],), 2) == 3
    assert Path("rank_1").read_text() == "2x"


def test_environment_of_a_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    set_environment(1, 4, 29999)
    expected = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999"}
    assert {name: os.environ[name] for name in expected} == expected


def test_a_free_port_can_be_taken() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
