import shutil
from pathlib import Path

import pytest

from caffe_compat.cli import main
from caffe_compat.proto import parse_net
from caffe_compat.tools import draw

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "the \\"conv\\"" type: "Convolution" bottom: "data" top: "a"
        convolution_param { num_output: 4 kernel_size: 3 pad_h: 1 pad_w: 0 group: 1 } }
layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
layer { name: "pool" type: "Pooling" bottom: "a" top: "b" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "only_train" type: "Dropout" bottom: "b" top: "b" include { phase: TRAIN } }
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return path


def test_dot_text(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.dot"
    assert main(["draw", str(model), str(out), "--rankdir", "LR"]) == 0
    text = out.read_text()
    assert text.startswith('digraph "small" {\n  rankdir=LR;')
    assert r'label="the \"conv\"\nConvolution\n4 outputs\nkernel 3, pad 1x0"' in text
    # In-place layers stand in line.
    assert 'layer1 -> layer2 [label="a"]' in text
    assert 'layer2 -> layer3 [label="a"]' in text
    assert 'output0 [label="b", shape=ellipse' in text
    assert "only_train" not in text


def test_phase(model: Path, tmp_path: Path) -> None:
    main(["draw", str(model), str(tmp_path / "net.dot"), "--phase", "TRAIN"])
    assert "only_train" in (tmp_path / "net.dot").read_text()


def test_needs_no_data() -> None:
    net = parse_net('layer { name: "d" type: "Data" top: "x" data_param { source: "nowhere" } }')
    assert "layer0 -> output0" in draw.to_dot(net)


def test_unknown_ending(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", str(model), "net.bmp"]) == 1
    assert "unknown kind of picture" in capsys.readouterr().err


def test_without_graphviz(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["draw", str(model), str(tmp_path / "net.svg")]) == 1
    assert "dot is not installed" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_picture(model: Path, tmp_path: Path) -> None:
    assert main(["draw", str(model), str(tmp_path / "net.svg")]) == 0
    assert "<svg" in (tmp_path / "net.svg").read_text()


def test_a_program_that_fails(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho bad graph >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    out = tmp_path / "net.svg"
    assert main(["draw", str(model), str(out)]) == 1
    assert "dot ended with 3: bad graph" in capsys.readouterr().err
    assert not out.exists()
