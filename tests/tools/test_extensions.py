"""Commands with what users add: a layer type of their own, in a file of theirs, has the rights of ours."""

from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat.cli import main
from caffe_compat.tools._exported import run_exported

MODULE = """
from torch import Tensor

import caffe_compat


@caffe_compat.register("{name}")
class Plus(caffe_compat.Layer):
    graph_safe = True
    drawing_kind = "weights"

    def infer_shapes(self, bottom):
        return [bottom]

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom + 3

    def flops(self, bottom_shapes, top_shapes):
        return 77

    def to_onnx(self, graph, step):
        return [graph.add("Add", step.bottoms[0], graph.constant(3.0))]

    @classmethod
    def drawing_details(cls, param):
        return ["plus three"]
"""
NET = """
layer {{ name: "in" type: "Input" top: "data" input_param {{ shape {{ dim: 2 dim: 4 }} }} }}
layer {{ name: "plus" type: "{name}" bottom: "data" top: "sum" }}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Holds mine_<test>.py with layer type Plus_<test>, and net.prototxt with such a layer; the working directory."""
    name = request.node.name.removeprefix("test_")
    (tmp_path / f"mine_{name}.py").write_text(MODULE.format(name=f"Plus_{name}"))
    (tmp_path / "net.prototxt").write_text(NET.format(name=f"Plus_{name}"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_summary(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "net.prototxt"]) == 1
    assert "unknown type" in capsys.readouterr().err
    assert main(["summary", "net.prototxt", "--import", "mine_summary"]) == 0
    assert "77" in capsys.readouterr().out


def test_draw(folder: Path) -> None:
    assert main(["draw", "net.prototxt", "net.dot", "--import=mine_draw.py"]) == 0
    assert 'plus\\nPlus_draw\\nplus three", fillcolor=lightblue' in (folder / "net.dot").read_text()


def test_onnx(folder: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.save({}, "none.pt")
    assert main(["convert", "net.prototxt", "none.pt", "net.onnx", "--import", "mine_onnx.py"]) == 0
    session = onnxruntime.InferenceSession("net.onnx")
    (found,) = session.run(["sum"], {"data": np.full((2, 4), 0.5, np.float32)})
    assert np.all(found == 3.5)


def test_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "net.prototxt", "--import", "nowhere"]) == 1
    assert "--import nowhere: No module named 'nowhere'" in capsys.readouterr().err
    assert main(["summary", "net.prototxt", "--import", "nowhere.py"]) == 1
    assert "--import nowhere.py: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--dynamic", "batch,height"], ["--fp16"]])
def test_the_layer_of_the_docs(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parent.parent.parent / "docs" / "onnx.md"
    name = f"halves_{len(words)}_{len(words) and words[0].strip('-')}"
    code = page.read_text().split("```python\n")[1].split("```")[0].replace('"Halves"', f'"{name}"')
    (tmp_path / f"{name}.py").write_text(code)
    shape = "shape { dim: 2 dim: 4 dim: 3 dim: 3 }"
    text = f'layer {{ name: "in" type: "Input" top: "data" input_param {{ {shape} }} }}'
    (tmp_path / "net.prototxt").write_text(f'{text} layer {{ name: "it" type: "{name}" bottom: "data" top: "top" }}')
    monkeypatch.chdir(tmp_path)
    torch.save({"it.factor": torch.tensor([2.0])}, "net.pt")
    assert main(["convert", "net.prototxt", "net.pt", "net.onnx", "--import", f"{name}.py", *words]) == 0
    data = np.random.default_rng(0).standard_normal((2, 4, 3, 3)).astype(np.float16).astype(np.float32)
    found = run_exported(tmp_path / "net.onnx", {"data": data})["top"]
    np.testing.assert_array_equal(found, 2 * data.reshape(2, 2, 2, 3, 3))
