"""``caffe time``: a line for each layer and direction."""

import json
import re
from pathlib import Path

import pytest

from caffe_compat import Net
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


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["time", "--model=net.prototxt", "--iterations=3", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["iterations"] == 3
    logged = re.findall(r"(\S+)\tforward: ([0-9.e+-]+) ms\.", captured.err)
    assert [layer["name"] for layer in found["layers"]] == [name for name, _ in logged]
    for layer, (_, forward_ms) in zip(found["layers"], logged, strict=True):
        assert layer["forward_ms"] == pytest.approx(float(forward_ms), rel=1e-4)
        assert layer["backward_ms"] >= 0


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


def test_weights_that_do_not_fit_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    Net("net.prototxt").save("w.caffemodel")
    second = (
        'layer { name: "new" type: "InnerProduct" bottom: "ip" top: "new" inner_product_param { num_output: 2 } }\n'
    )
    Path("net.prototxt").write_text(NET.replace('name: "loss"', 'name: "end"') + second)
    words = ["time", "--model=net.prototxt", "--weights=w.caffemodel", "--iterations=1"]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "Ignoring source layer loss\n" in said
    assert 'w.caffemodel: left as they were, as no blobs came for them: "new"\n' in said
    assert main([*words, "--strict"]) == 1
    assert "w.caffemodel: does not fit net.prototxt wholly: left as they were, as" in capsys.readouterr().err
    Path("net.prototxt").write_text(NET.replace('name: "ip"', 'name: "new"'))
    assert main(words) == 1
    assert "w.caffemodel: nothing fits net.prototxt" in capsys.readouterr().err
