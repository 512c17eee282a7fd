"""The command; what it measures with is tested in tests/solver/test_tune.py."""

from pathlib import Path

import pytest
import torch

from caffe_compat.cli import main
from caffe_compat.ops import conv_choice

NET = """
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 8 dim: 16 dim: 9 dim: 9 } shape { dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 32 kernel_size: 3 group: 2 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(tmp_path / "net.prototxt")]) == 1
    assert capsys.readouterr().err == (
        "caffe-compat tune: PyTorch finds no CUDA device; paths are chosen on CUDA alone\n"
    )


@needs_cuda
def test_the_table_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "net.prototxt"
    model.write_text(NET)
    monkeypatch.setenv(conv_choice.TABLE_VARIABLE, str(tmp_path / "table.json"))
    assert main(["tune", str(model), "--precision", "tf32"]) == 0
    assert "ms a step before" in capsys.readouterr().out
    assert torch.cuda.get_device_name() in conv_choice.read_table()
