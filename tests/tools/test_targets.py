"""What ``convert`` writes, and that it is checked: wrong results are not kept."""

import copy
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from caffe_compat import Net, random
from caffe_compat.cli import main
from caffe_compat.tools import _exported, _targets

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 30 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """net.prototxt with net.caffemodel beside it."""
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    random.set_seed(1)
    Net(path, phase="TEST").save(tmp_path / "net.caffemodel")
    return path


def run(model: Path, out: Path) -> int:
    return main(["convert", str(model), str(model.with_suffix(".caffemodel")), str(out)])


def test_without_onnx(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(model, tmp_path / "out.onnx") == 1
    assert "pip install 'caffe-compat[onnx]'" in capsys.readouterr().err


def test_a_wrong_result_is_not_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def export_wrongly(net: Net, *arguments: Any) -> None:
        wrong = copy.deepcopy(net)
        with torch.no_grad():
            wrong.params["ip"][0][0] += 0.1
        export(wrong, *arguments)

    def save_wrongly(state: dict[str, torch.Tensor], path: Path) -> None:
        save({**state, "ip.weight": state["ip.weight"] + 0.1}, path)

    export, save = _exported.export, torch.save
    monkeypatch.setattr(_targets, "export", export_wrongly)
    assert run(model, tmp_path / "out.pt2") == 1
    assert "out.pt2: not written; it differs from the source net at prob, index (0, 0)" in capsys.readouterr().err
    monkeypatch.setattr(torch, "save", save_wrongly)
    assert run(model, tmp_path / "out.pt") == 1
    assert "out.pt: not written; ip.weight differs from the source net's" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.caffemodel", "net.prototxt"]


def test_too_large_for_onnx(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(_targets, "ONNX_LIMIT_BYTES", 1000)
    assert run(model, tmp_path / "out.onnx") == 1
    assert "an ONNX file holds less than 2 GiB" in capsys.readouterr().err


def test_data_layers_cannot_be_exported(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = 'layer { name: "made" type: "DummyData" top: "made" dummy_data_param { shape { dim: 2 } } }'
    model.write_text(model.read_text() + made)
    assert run(model, tmp_path / "out.pt2") == 1
    assert 'layer "made" (DummyData): a data layer cannot be exported' in capsys.readouterr().err


def test_export_that_fails(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def export(*args: object) -> None:
        raise RuntimeError("graph\nbreak")

    monkeypatch.setattr(torch.export, "export", export)
    assert run(model, tmp_path / "out.pt2") == 1
    assert "torch.export cannot trace this net: graph break" in capsys.readouterr().err
