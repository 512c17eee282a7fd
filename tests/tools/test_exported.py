"""Weights in PyTorch's files, and programs of other runtimes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from caffe_compat import Net
from caffe_compat.errors import CaffeCompatError
from caffe_compat.proto import parse_net
from caffe_compat.tools._exported import Program, load_weights, python_names, run_alone, run_exported

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
"""
STATE = {"fc.weight": torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), "fc.bias": torch.tensor([10.0, 20.0])}
X = np.array([[1, 0, 2]], np.float32)


@pytest.fixture
def net() -> Net:
    return Net(parse_net(NET), phase="TEST")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w.caffemodel", "w.caffemodel.h5"])
def test_load_weights(net: Net, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".pt":
        torch.save(STATE, path)
    elif path.suffix == ".safetensors":
        save_file(STATE, path)
    else:
        other = Net(parse_net(NET))
        other.load_state_dict(STATE)
        other.save(path)
    load_weights(net, path)
    assert {name: value.tolist() for name, value in net.state_dict().items()} == {
        name: value.tolist() for name, value in STATE.items()
    }


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"fc.weight": STATE["fc.weight"]}, 'Missing key(s) in state_dict: "fc.bias"'),
        ({**STATE, "fc.bias": torch.zeros(3)}, "size mismatch for fc.bias"),
    ],
)
def test_another_nets_state_is_refused_in_one_line(
    net: Net, tmp_path: Path, state: dict[str, torch.Tensor], message: str
) -> None:
    for path, save in ((tmp_path / "w.pt", torch.save), (tmp_path / "w.safetensors", save_file)):
        save(state, path)
        with pytest.raises(CaffeCompatError) as caught:
            load_weights(net, path)
        assert str(caught.value).startswith(f"{path}: ")
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_broken_files(net: Net, tmp_path: Path) -> None:
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(CaffeCompatError, match=f"{name}: "):
            load_weights(net, tmp_path / name)


class Doubling(torch.nn.Module):
    def forward(self, x: torch.Tensor, unused: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"twice": 2 * x, "sum": x.sum()}


def test_run_pt2(tmp_path: Path) -> None:
    inputs = {"x": X, "unused": X}
    program = torch.export.export(Doubling(), (), {name: torch.from_numpy(value) for name, value in inputs.items()})
    torch.export.save(program, tmp_path / "program.pt2")
    found = run_exported(tmp_path / "program.pt2", {"x": X + 1, "unused": X})
    assert {name: value.tolist() for name, value in found.items()} == {"twice": [[4, 2, 6]], "sum": 6}


def test_run_onnx_passes_over_inputs_that_the_graph_lacks(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    nodes = [onnx.helper.make_node("Add", ["x", "x"], ["twice"]), onnx.helper.make_node("Neg", ["x"], ["less"])]
    values = {name: onnx.helper.make_tensor_value_info(name, 1, X.shape) for name in ("x", "twice", "less")}
    graph = onnx.helper.make_graph(nodes, "g", [values["x"]], [values["twice"], values["less"]])
    onnx.save(onnx.helper.make_model(graph, ir_version=8), tmp_path / "graph.onnx")
    found = run_exported(tmp_path / "graph.onnx", {"x": X, "label": X})
    assert {name: value.tolist() for name, value in found.items()} == {"twice": [[2, 0, 4]], "less": [[-1, 0, -2]]}


def test_python_names() -> None:
    names = ["data", "input.1", "input_1", "self", "1", "", "class", "a/b", "\u00e4"]
    assert python_names(names, ["self"]) == {
        "data": "data",
        "input.1": "input_1",
        "input_1": "input_1_",
        "self": "self_",
        "1": "_1",
        "": "_",
        "class": "class_",
        "a/b": "a_b",
        "\u00e4": "__",
    }


def test_a_programs_submodules_are_the_layers(net: Net) -> None:
    program = Program(net)
    assert list(program.state_dict()) == ["fc.weight", "fc.bias"]
    assert program.arguments == {"x": "x"}
    assert torch.equal(program(x=torch.from_numpy(X))["y"], net(torch.from_numpy(X))["y"])


def test_run_alone(tmp_path: Path) -> None:
    path = tmp_path / "program.pt2"
    inputs = {"x": X, "unused": X}
    program = torch.export.export(Doubling(), (), {name: torch.from_numpy(value) for name, value in inputs.items()})
    torch.export.save(program, path)
    assert run_alone(path, inputs)["twice"].tolist() == [[2, 0, 4]]
    path.write_bytes(b"no program")
    with pytest.raises(CaffeCompatError, match=r"PyTorch alone cannot run it: [\w.]+: ") as caught:
        run_alone(path, inputs)
    assert "\n" not in str(caught.value)
