"""``caffe time``: a line for each layer and direction."""

import re
from pathlib import Path

import pytest

from caffe_compat.cli import main

NET = """
layer { name: "d" type: "DummyData" top: "data" dummy_data_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "ip" top: "loss" include { phase: TRAIN } }
"""


@pytest.fixture(autouse=True)
def _net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    monkeypatch.chdir(tmp_path)


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["time", "--model=net.prototxt", "--iterations=3"]) == 0
    lines = [line.split("] ")[1] for line in capsys.readouterr().err.splitlines()]
    names = [match[1] for line in lines if (match := re.fullmatch(r" *(\S+)\tforward: [0-9.e+-]+ ms\.", line))]
    assert names[0] == "d"
    assert names[-1] == "loss"
    assert sum(bool(re.fullmatch(r" *\S+\tbackward: [0-9.e+-]+ ms\.", line)) for line in lines) == len(names)
    assert sum(line.startswith("Iteration: ") for line in lines) == 3
    for start in ("Average Forward pass: ", "Average Backward pass: ", "Average Forward-Backward: ", "Total Time: "):
        assert any(re.fullmatch(rf"{start}[0-9.e+-]+ ms\.", line) for line in lines)


def test_phase(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caffe", "time", "-model", "net.prototxt", "-iterations=1", "-phase=TEST"]) == 0
    assert "loss\t" not in capsys.readouterr().err


def test_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["time", "--model=net.prototxt", "--iterations=0"]) == 1
    assert "--iterations is 0" in capsys.readouterr().err
    assert main(["time", "--model=net.prototxt", "--phase=DEPLOY"]) == 2
