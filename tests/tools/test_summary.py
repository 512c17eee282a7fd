import json
from pathlib import Path

import pytest

from caffe_compat import Net
from caffe_compat.cli import main
from caffe_compat.tools.summary import summarize

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 dim: 9 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { name: "w" }
        convolution_param { num_output: 6 kernel_size: 3 stride: 2 group: 2 bias_term: false } }
layer { name: "twin" type: "Convolution" bottom: "data" top: "twin" param { name: "w" }
        convolution_param { num_output: 6 kernel_size: 3 stride: 2 group: 2 bias_term: false } }
layer { name: "up" type: "Deconvolution" bottom: "conv" top: "up" convolution_param { num_output: 1 kernel_size: 2 stride: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "twin" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "sum" type: "Reduction" bottom: "ip" top: "sum" }
"""  # noqa: E501


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return path


def test_counts(model: Path) -> None:
    rows = {row.name: row for row in summarize(Net(model, phase="TEST").graph)}
    assert list(rows) == ["data", "conv", "twin", "up", "ip", "sum"]  # no automatic Split
    assert rows["conv"].tops == {"conv": (2, 6, 4, 4)}
    assert rows["conv"].parameters == rows["twin"].parameters == 6 * 2 * 3 * 3
    assert rows["twin"].new_parameters == 0
    assert rows["conv"].flops == 2 * (2 * 6 * 4 * 4) * (2 * 3 * 3)
    assert rows["up"].flops == 2 * (2 * 6 * 4 * 4) * (1 * 2 * 2)
    assert rows["ip"].flops == 2 * (2 * 5) * (6 * 4 * 4)
    assert rows["sum"].tops == {"sum": ()}


def test_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    conv = {"parameters": 108, "new_parameters": 108, "flops": 2 * 192 * 18}
    assert found["layers"][1] == {"name": "conv", "type": "Convolution", "tops": {"conv": [2, 6, 4, 4]}, **conv}
    assert found["parameters"] == 108 + (6 * 1 * 2 * 2 + 1) + (5 * 96 + 5)
    assert found["flops"] == sum(layer["flops"] for layer in found["layers"])


def test_recurrent_layers_count_every_step(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(
        'input: "x" input_shape { dim: 3 dim: 2 dim: 5 } input: "cont" input_shape { dim: 3 dim: 2 }'
        'layer { name: "r" type: "LSTM" bottom: "x" bottom: "cont" top: "h" recurrent_param { num_output: 4 } }'
    )
    row = summarize(Net(tmp_path / "net.prototxt", phase="TEST").graph)[-1]
    assert row.flops == 2 * (3 * 2) * (4 * 4 * 5 + 4 * 4 * 4)


def test_table(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "type", "tops", "parameters", "FLOPs"]
    assert "108 shared" in next(line for line in lines if line.startswith("twin"))
    assert next(line for line in lines if line.startswith("total")).split()[1] == f"{108 + 25 + 485}"


def test_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "absent.prototxt"]) == 1
    assert "absent.prototxt" in capsys.readouterr().err
