"""The facade's solvers: what a caller sees of a step."""

from pathlib import Path

import numpy as np
import pytest

import caffe_compat.pycaffe as caffe
from caffe_compat.errors import SolverError

NET = """
layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 1 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 1 bias_term: false weight_filler { type: "constant" value: 1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""
SOLVER = 'net: "{net}" base_lr: 0.5 lr_policy: "fixed" display: 1 snapshot_prefix: "{prefix}" type: "{type}"'


@pytest.fixture
def solver_file(tmp_path: Path) -> Path:
    (tmp_path / "net.prototxt").write_text(NET)
    path = tmp_path / "solver.prototxt"
    path.write_text(SOLVER.format(net=tmp_path / "net.prototxt", prefix=tmp_path / "snap", type="SGD"))
    return path


def test_a_step_shows_blobs_and_the_update(solver_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    solver = caffe.get_solver(str(solver_file))
    solver.net.blobs["x"].data[...] = np.eye(4, 3)
    weights, diffs = solver.net.params["fc"][0].data, solver.net.params["fc"][0].diff
    solver.step(1)
    # loss = sum (y - t)^2 / 8 over 4 rows, y = 1, 1, 1, 0; gradient 1/4 each, times base_lr
    assert solver.net.blobs["loss"].data == pytest.approx(3 / 8)
    assert diffs.tolist() == [[0.125] * 3], "the diff holds the update, in the array taken before the step"
    assert weights.tolist() == [[0.875] * 3]
    assert solver.iter == 1
    assert "Train net output #0: loss = 0.375" in capfd.readouterr().err


def test_callbacks_can_change_gradients(solver_file: Path) -> None:
    solver = caffe.SGDSolver(str(solver_file))
    calls = []
    solver.net.blobs["x"].data[...] = 1
    solver.add_callback(
        lambda: calls.append("start"),
        lambda: solver.net.params["fc"][0].diff.fill(2),
    )
    solver.step(2)
    assert calls == ["start", "start"]
    assert solver.net.params["fc"][0].data.tolist() == [[-1.0] * 3]


def test_the_wrong_class_is_refused(solver_file: Path) -> None:
    with pytest.raises(SolverError, match='type is "SGD", not "Adam"; use get_solver'):
        caffe.AdamSolver(str(solver_file))
