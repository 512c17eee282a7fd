"""ONNX files run by other programs in processes of their own."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from caffe_compat.errors import CaffeCompatError
from caffe_compat.tools import _checkers
from caffe_compat.tools._checkers import CHECKERS, Checker, Trial, check_onnx, chosen_from
from caffe_compat.tools._onnx import to_onnx
from tests.onnx_harness import net_of

NET = 'layer { name: "relu" type: "ReLU" bottom: "a/1" top: "b é" }'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(to_onnx(net_of(NET, **{"a/1": (2, 3)})).SerializeToString())
    return path


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda checker: checker.title)
def test_run(checker: Checker, path: Path) -> None:
    """The values, by names that are not Python's, for each batch of inputs."""
    batches = [{"a/1": np.array([[1, -2, 3], [-4, 5, -6]], np.float32) * sign} for sign in (1, -1)]
    version, results = checker.run(path, batches, ["b é"])
    assert version == __import__(checker.package).__version__
    assert [values[0].tolist() for values in results] == [[[1, 0, 3], [0, 5, 0]], [[0, 2, 0], [4, 0, 6]]]


def test_what_it_cannot_run_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    node = helper.make_node("NoSuchOperator", ["a"], ["b"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("a", "b")]
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]), ir_version=8)
    onnx.save(model, path)
    for checker in CHECKERS:
        with pytest.raises(CaffeCompatError, match=r"^cannot run it: .*NoSuchOperator") as caught:
            checker.run(path, [{"a": np.ones(1, np.float32)}], ["b"])
        assert "\n" not in str(caught.value)


def test_who_agrees_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first has to agree; what a second one does is told; one that is not there is named."""
    trial = Trial(net_of(NET, **{"a/1": (2, 3)}), [{"a/1": (2, 3)}], 1e-5)
    good, other = CHECKERS[0], Checker("Other", "numpy", "version, results = '2', [[b['a/1']] for b in batches]\n")
    absent = Checker("Absent", "no_such_package", "")
    monkeypatch.setattr(_checkers, "CHECKERS", (good, other, absent))
    said, doubted = check_onnx(path, trial, {"b é": "b é"})
    assert doubted
    assert "written; 1 output(s) equal the source net's; onnxruntime" in said
    assert "; Other: differs from the source net at b é, index (" in said
    assert "; Absent is not installed: not run with it" in said
    assert said.endswith("; run it with onnxruntime, not with Other of this version")
    monkeypatch.setattr(_checkers, "CHECKERS", (good, absent))
    said, doubted = check_onnx(path, trial, {"b é": "b é"})
    assert not doubted
    assert said.endswith("; Absent is not installed: not run with it")
    monkeypatch.setattr(_checkers, "CHECKERS", (other, good))
    with pytest.raises(CaffeCompatError, match=r"^Other: differs from the source net at b é"):
        check_onnx(path, trial, {"b é": "b é"})
    monkeypatch.setattr(_checkers, "CHECKERS", (absent,))
    said, doubted = check_onnx(path, trial, {"b é": "b é"})
    assert "valid ONNX, but not run; Absent is not installed" in said
    assert not doubted


def test_choices_may_tip(tmp_path: Path) -> None:
    """Where rounding is allowed, ArgMax may take another of two near values: that is told, not refused."""
    text = 'layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { power: %d } }'
    text += 'layer { name: "am" type: "ArgMax" bottom: "y" top: "index" }'
    path = tmp_path / "net.onnx"
    path.write_bytes(to_onnx(net_of(text % 3, x=(3, 50))).SerializeToString())
    other = net_of(text % 2, x=(3, 50))
    with pytest.raises(CaffeCompatError, match="differs from the source net at index"):
        check_onnx(path, Trial(other, [{"x": (3, 50)}], 1e-5), {"index": "index"})
    said = check_onnx(path, Trial(other, [{"x": (3, 50)}], 1e-5, choices=False), {"index": "index"}).said
    assert "onnxruntime" in said
    assert "index chooses between values that are near, index (" in said


def test_what_is_chosen_from() -> None:
    text = 'layer { name: "p" type: "Power" bottom: "x" top: "y" }'
    text += 'layer { name: "am" type: "ArgMax" bottom: "y" top: "index" }'
    text += 'layer { name: "t" type: "Threshold" bottom: "index" top: "high" }'
    assert chosen_from(net_of(text, x=(3, 50))) == ["y"]
    assert chosen_from(net_of(NET, **{"a/1": (2, 3)})) == []
