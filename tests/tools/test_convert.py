import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from caffe_compat import Net, random
from caffe_compat.cli import main
from caffe_compat.tools import convert
from caffe_compat.tools._noise import noise_inputs

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 16 dim: 16 } } }
layer { name: "inception/conv" type: "Convolution" bottom: "data" top: "conv" param { name: "shared" }
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "again" type: "Convolution" bottom: "conv" top: "again" param { name: "shared" }
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
layer { name: "relu" type: "ReLU" bottom: "again" top: "again" }
layer { name: "pool" type: "Pooling" bottom: "again" top: "pool" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" lrn_param { local_size: 3 alpha: 0.5 } }
layer { name: "ip" type: "InnerProduct" bottom: "norm" top: "ip"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""  # noqa: E501


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """net.prototxt with net.caffemodel beside it."""
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    random.set_seed(1)
    Net(path, phase="TEST").save(tmp_path / "net.caffemodel")
    return path


def run(model: Path, out: Path, weights: Path | None = None) -> int:
    return main(["convert", str(model), str(weights or model.with_suffix(".caffemodel")), str(out)])


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_state_dict(model: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / f"out{ending}"
    assert run(model, out) == 0
    assert "equal the source net's, largest error 0.0e+00 (blob prob)" in capsys.readouterr().out
    state = load_file(out) if ending == ".safetensors" else torch.load(out, weights_only=True)
    source = Net(model, model.with_suffix(".caffemodel"), phase="TEST")
    assert torch.equal(state["ip.weight"], source.params["ip"][0])
    # and back
    assert run(model, tmp_path / f"again{ending}", weights=out) == 0


def test_exported_program(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pt2"
    assert run(model, out) == 0
    data = torch.randn(2, 3, 16, 16)
    source = Net(model, model.with_suffix(".caffemodel"), phase="TEST")
    torch.testing.assert_close(torch.export.load(out).module()(data=data)["prob"], source(data=data)["prob"])


def test_onnx(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tmp_path / "out.onnx"
    assert run(model, out) == 0
    session = onnxruntime.InferenceSession(out)
    assert [value.name for value in session.get_inputs()] == ["data"]
    assert [value.name for value in session.get_outputs()] == ["prob"]


def test_without_onnx(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(model, tmp_path / "out.onnx") == 1
    assert "pip install 'caffe-compat[onnx]'" in capsys.readouterr().err


def test_a_wrong_result_is_not_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_wrongly(net: Net, path: Path) -> None:
        state = net.state_dict()
        torch.save(
            {name: tensor + 0.1 * (name == "ip.weight") * torch.randn_like(tensor) for name, tensor in state.items()},
            path,
        )

    monkeypatch.setitem(convert.WRITERS, ".pt", write_wrongly)
    out = tmp_path / "out.pt"
    assert run(model, out) == 1
    assert "not written; it differs from the source net at prob, index (0, 0)" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.caffemodel", "net.prototxt"]


def test_too_large_for_onnx(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(convert, "ONNX_LIMIT_BYTES", 1000)
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


def test_unknown_ending(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model, Path("out.tflite")) == 1
    assert "end the name in .pt, .safetensors, .pt2, .onnx" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_weights_of_another_net(model: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / f"weights{ending}"
    if ending == ".pt":
        torch.save({"other.weight": torch.zeros(1)}, weights)
    else:
        weights.write_bytes(b"no safetensors")
    assert run(model, tmp_path / "out.pt", weights) == 1
    assert f"{weights}: " in capsys.readouterr().err


def test_numbers_do_not_depend_on_the_callers_state(model: Path) -> None:
    net = Net(model, phase="TEST")
    first, second = noise_inputs(net), noise_inputs(net)
    assert np.array_equal(first["data"], second["data"])


def test_weights_that_do_not_fit_are_said(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.prototxt"
    other.write_text(NET.replace('"ip"', '"ip_new"'))
    words = ["convert", str(other), str(model.with_suffix(".caffemodel")), str(tmp_path / "out.pt")]
    differences = (
        f"{model.with_suffix('.caffemodel')}: does not fit {other} wholly{{}}: ignored, as the net has no such layer: "
        '"ip"; left as they were, as no blobs came for them: "ip_new"\n'
    )
    assert main(words) == 0
    assert capsys.readouterr().err == f"warning: {differences.format('')}"
    (tmp_path / "out.pt").unlink()
    assert main([*words, "--strict"]) == 1
    assert capsys.readouterr().err == f"caffe-compat convert: {differences.format(', and nothing is copied')}"
    other.write_text(NET.replace('"ip"', '"ip_new"').replace('"again"', '"x"').replace('"inception/conv"', '"y"'))
    assert main(words) == 1
    assert "net.caffemodel: nothing fits" in capsys.readouterr().err
    assert not (tmp_path / "out.pt").exists()


def test_an_inner_product_as_a_convolution(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conv = tmp_path / "conv.prototxt"
    as_conv = "convolution_param { kernel_size: 9 "
    conv.write_text(NET.replace("InnerProduct", "Convolution").replace("inner_product_param {", as_conv))
    words = ["convert", str(conv), str(model.with_suffix(".caffemodel")), str(tmp_path / "out.pt")]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "param 0 has shape (5, 243) in the file and (5, 3, 9, 9) in the net" in said
    assert "or --reshape=ip" in said
    assert main([*words, "--reshape=ip"]) == 0
    source = Net(model, model.with_suffix(".caffemodel"), phase="TEST")
    state = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(state["ip.weight"], source.params["ip"][0].view(5, 3, 9, 9))
