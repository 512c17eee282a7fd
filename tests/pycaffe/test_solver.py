"""The facade's solvers: what a caller sees of a step."""

import subprocess
import sys
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


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        (caffe.SGDSolver, 0.5 * 2),
        (caffe.NesterovSolver, 0.5 * 2),
        (caffe.AdaGradSolver, 0.5),
        (caffe.AdamSolver, 0.5),
    ],
)
def test_the_class_decides_whatever_the_file_says(solver_file: Path, kind: type[caffe.SGDSolver], step: float) -> None:
    solver_file.write_text(solver_file.read_text().replace('"SGD"', '"RMSProp" rms_decay: 0.9'))
    solver = kind(str(solver_file))
    assert type(solver) is kind
    solver.net.params["fc"][0].diff[...] = 2
    solver.apply_update()
    assert solver.net.params["fc"][0].data == pytest.approx(1 - step, rel=1e-5)


def test_get_solver_gives_the_class_of_the_file(solver_file: Path) -> None:
    assert type(caffe.get_solver(solver_file)) is caffe.SGDSolver
    solver_file.write_text(solver_file.read_text().replace('"SGD"', '"AdaDelta" momentum: 0.9 delta: 1e-6'))
    assert type(caffe.get_solver(solver_file)) is caffe.AdaDeltaSolver
    solver_file.write_text(solver_file.read_text().replace('"AdaDelta"', '"Nope"'))
    with pytest.raises(SolverError, match="Nope"):
        caffe.get_solver(solver_file)


def test_apply_update_uses_the_diffs_and_the_rate_of_now(solver_file: Path) -> None:
    solver_file.write_text(solver_file.read_text().replace('"fixed"', '"step" gamma: 0.1 stepsize: 2'))
    solver = caffe.SGDSolver(solver_file)
    weights = solver.net.params["fc"][0]
    weights.data[...] = 0
    weights.diff[...] = 1
    assert solver.lr == 0.5
    solver.apply_update()
    assert weights.data.tolist() == [[-0.5] * 3]
    assert solver.iter == 1
    solver.param.base_lr = 2
    weights.diff[...] = 1
    solver.apply_update()
    assert weights.data.tolist() == [[-2.5] * 3]
    assert solver.iter == 2
    assert solver.lr == pytest.approx(0.2)


def test_a_loop_of_ones_own_over_apply_update_trains_as_step_does(solver_file: Path) -> None:
    """Adam's correction depends on how many updates there have been."""
    solver_file.write_text(solver_file.read_text().replace('"fixed"', '"exp" gamma: 0.5'))
    own, other = caffe.AdamSolver(solver_file), caffe.AdamSolver(solver_file)
    for solver in (own, other):
        solver.net.blobs["x"].data[...] = np.arange(12).reshape(4, 3)
    for _ in range(3):
        own.net.clear_param_diffs()
        own.net.forward()
        own.net.backward()
        own.apply_update()
    other.step(3)
    assert own.net.params["fc"][0].data.tolist() == other.net.params["fc"][0].data.tolist()
    assert own.iter == other.iter == 3


def test_share_weights(solver_file: Path, tmp_path: Path) -> None:
    solver = caffe.SGDSolver(solver_file)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    solver.share_weights(net)
    solver.net.params["fc"][0].data[...] = 7
    assert net.params["fc"][0].data.tolist() == [[7.0] * 3]


def test_the_solvers_tests_fill_the_test_nets_blobs(solver_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    solver_file.write_text(solver_file.read_text() + " test_iter: 2 test_interval: 1 max_iter: 2")
    solver = caffe.SGDSolver(solver_file)
    test = solver.test_nets[0]
    test.blobs["x"].data[...] = np.eye(4, 3)
    solver.step(1)
    assert test.blobs["y"].data.ravel().tolist() == [1, 1, 1, 0]
    solver.net.params["fc"][0].data[...] = 2
    solver.solve()
    assert test.blobs["y"].data.ravel().tolist() == [2, 2, 2, 0], "the test after the last iteration"
    assert solver.iter == 2
    log = capfd.readouterr().err
    assert "Test net output #0: loss = 0.375" in log
    assert "Test net output #0: loss = 1.5" in log


TRAIN_TOGETHER = """
import sys
import numpy as np
import caffe_compat.pycaffe as caffe
from pathlib import Path

rank, count, uid, solver_file, out = int(sys.argv[1]), 2, sys.argv[2].encode(), sys.argv[3], sys.argv[4]
caffe.set_solver_count(count)
caffe.set_solver_rank(rank)
caffe.set_multiprocess(True)
solver = caffe.SGDSolver(solver_file)
solver.net.params["fc"][0].data[...] = rank + 1  # the first process wins
nccl = caffe.NCCL(solver, uid)
nccl.bcast()
solver.add_callback(nccl)
if solver.param.layer_wise_reduce:
    solver.net.after_backward(nccl)
solver.net.blobs["x"].data[...] = np.eye(4, 3) * (1 - rank)
solver.step(1)
np.save(out + str(rank), solver.net.params["fc"][0].data)
"""


@pytest.mark.parametrize("layer_wise", ["true", "false"])
def test_processes_train_together(solver_file: Path, tmp_path: Path, layer_wise: str) -> None:
    solver_file.write_text(solver_file.read_text() + f" layer_wise_reduce: {layer_wise}")
    assert caffe.has_nccl()
    uid = caffe.NCCL.new_uid()
    assert isinstance(uid, bytes)
    command = [sys.executable, "-c", TRAIN_TOGETHER]
    arguments = [uid.decode(), str(solver_file), str(tmp_path / "w")]
    processes = [subprocess.Popen([*command, str(rank), *arguments]) for rank in (0, 1)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    for rank in (0, 1):
        # gradients 1/4 each and 0, averaged, at rate 0.5
        assert np.load(tmp_path / f"w{rank}.npy").tolist() == [[1 - 0.0625] * 3]


def test_another_process_may_train_with_the_same_prefix_between_calls(solver_file: Path, tmp_path: Path) -> None:
    solver = caffe.SGDSolver(str(solver_file))
    solver.snapshot()
    command = [sys.executable, "-m", "caffe_compat.cli", "train", f"--solver={solver_file}"]
    with solver_file.open("a") as file:
        file.write(" max_iter: 2")
    assert subprocess.run(command, check=False, capture_output=True, cwd=Path(__file__).parents[2]).returncode == 0
    assert (tmp_path / "snap_iter_2.caffemodel").exists()
