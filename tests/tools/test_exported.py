"""Weights in PyTorch's files, and programs of other runtimes."""

import pickle
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from caffe_compat import Net
from caffe_compat.errors import CaffeCompatError
from caffe_compat.proto import parse_net
from caffe_compat.tools._exported import ARGUMENTS, Program, load_weights, python_names, run_alone, run_exported

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
    found = run_exported(tmp_path / "program.pt2", {"x": X + 1, "unused": X}, trust=True)
    assert {name: value.tolist() for name, value in found.items()} == {"twice": [[4, 2, 6]], "sum": 6}


class Payload:
    """Its pickle writes a file when it is read."""

    def __reduce__(self) -> tuple[object, ...]:
        return (open, ("ran", "w"))


def write_evil_pt2(path: Path) -> None:
    """A program of torch.export whose example inputs are a payload."""
    inputs = {"x": torch.from_numpy(X), "unused": torch.from_numpy(X)}
    torch.export.save(torch.export.export(Doubling(), (), inputs), path)
    with zipfile.ZipFile(path) as good:
        members = {name: good.read(name) for name in good.namelist()}
    (examples,) = (name for name in members if "sample_inputs" in name)
    members[examples] = pickle.dumps(Payload())
    with zipfile.ZipFile(path, "w") as evil:
        for name, content in members.items():
            evil.writestr(name, content)


def test_a_program_is_opened_by_trust_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("evil.pt2")
    write_evil_pt2(path)
    with pytest.raises(
        CaffeCompatError, match=r"^evil\.pt2: is a program: .*where you trust who made it, say --trust$"
    ):
        run_exported(path, {"x": X, "unused": X})
    assert not Path("ran").exists()
    with suppress(CaffeCompatError):  # what else it is does not matter
        run_exported(path, {"x": X, "unused": X}, trust=True)
    assert Path("ran").exists(), "PyTorch no longer runs it: --trust has lost its reason"


def test_what_a_program_does_not_take(tmp_path: Path) -> None:
    path = tmp_path / "program.pt2"
    examples = {"x": torch.from_numpy(X), "unused": torch.from_numpy(X)}
    torch.export.save(torch.export.export(Doubling(), (), examples), path)
    for inputs, message in (
        ({"x": np.zeros((2, 2), np.float32), "unused": X}, "does not run on these inputs: "),
        ({"x": X}, "does not run on these inputs: "),
    ):
        with pytest.raises(CaffeCompatError, match=f"^{path}: {message}") as caught:
            run_exported(path, inputs, trust=True)
        assert "\n" not in str(caught.value)
    torch.export.save(
        torch.export.export(Doubling(), (), examples), path, extra_files={ARGUMENTS: '{"x": "data", "unused": "data"}'}
    )
    with pytest.raises(CaffeCompatError, match=r"takes an input 'data', 'data'; there are x; give --inputs"):
        run_exported(path, {"x": X}, trust=True)


def test_run_onnx_passes_over_inputs_that_the_graph_lacks(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    nodes = [onnx.helper.make_node("Add", ["x", "x"], ["twice"]), onnx.helper.make_node("Neg", ["x"], ["less"])]
    values = {name: onnx.helper.make_tensor_value_info(name, 1, X.shape) for name in ("x", "twice", "less")}
    graph = onnx.helper.make_graph(nodes, "g", [values["x"]], [values["twice"], values["less"]])
    onnx.save(onnx.helper.make_model(graph, ir_version=8), tmp_path / "graph.onnx")
    found = run_exported(tmp_path / "graph.onnx", {"x": X, "label": X})
    assert {name: value.tolist() for name, value in found.items()} == {"twice": [[2, 0, 4]], "less": [[-1, 0, -2]]}
    with pytest.raises(CaffeCompatError, match=r"graph\.onnx: takes an input 'x'; there are label; give --inputs"):
        run_exported(tmp_path / "graph.onnx", {"label": X})
    with pytest.raises(CaffeCompatError, match=r"graph\.onnx: does not run on these inputs: ") as caught:
        run_exported(tmp_path / "graph.onnx", {"x": np.zeros((2, 2), np.float32)})
    assert "\n" not in str(caught.value)


def damaged(good: bytes) -> dict[str, bytes]:
    """A file cut short, changed in the middle, of other bytes, and an archive of nothing."""
    middle = len(good) // 2
    flipped = good[: middle - 40] + bytes(byte ^ 255 for byte in good[middle - 40 : middle + 40]) + good[middle + 40 :]
    nothing = b"PK\x05\x06" + bytes(18)
    return {"empty": b"", "cut": good[:middle], "short": good[:-30], "flipped": flipped, "text": b"{}", "zip": nothing}


@pytest.mark.parametrize("kind", ["empty", "cut", "short", "flipped", "text", "zip", "absent"])
@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_damaged_programs(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"net{suffix}"
    if suffix == ".pt2":
        inputs = {"x": torch.from_numpy(X), "unused": torch.from_numpy(X)}
        torch.export.save(torch.export.export(Doubling(), (), inputs), path)
    else:
        onnx = pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
        values = {name: onnx.helper.make_tensor_value_info(name, 1, X.shape) for name in ("x", "y")}
        nodes = [onnx.helper.make_node("Neg", ["x"], ["y"])]
        graph = onnx.helper.make_graph(nodes, "g", [values["x"]], [values["y"]])
        onnx.save(onnx.helper.make_model(graph, ir_version=8), path)
    good = path.read_bytes()
    if kind == "absent":
        path.unlink()
    else:
        path.write_bytes(damaged(good)[kind])
    with pytest.raises(CaffeCompatError, match=f"^{path}: ") as caught:
        run_exported(path, {"x": X, "unused": X}, trust=True)
    assert "\n" not in str(caught.value)


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


def test_run_alone_takes_no_module_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "program.pt2"
    inputs = {"x": X, "unused": X}
    program = torch.export.export(Doubling(), (), {name: torch.from_numpy(value) for name, value in inputs.items()})
    torch.export.save(program, path)
    for module in ("torch.py", "json.py", "sitecustomize.py"):
        (tmp_path / module).write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    assert run_alone(path, inputs)["twice"].tolist() == [[2, 0, 4]]
    assert not Path("ran").exists()
