"""Test passes: means over batches, and what they leave alone."""

import io
from functools import partial

import pytest
import torch

from caffe_compat.errors import NetError
from caffe_compat.net import Net
from caffe_compat.proto import parse_message, parse_net
from caffe_compat.proto.caffe_pb2 import SolverParameter
from caffe_compat.solver import Log, Score, Solver
from caffe_compat.solver.evaluation import Result, evaluate, evaluate_detections, forward
from caffe_compat.solver.turns import take_all
from tests.solver.conftest import MakeSolver, assert_same_bits, train, weights

RUN = partial(forward, precision="fp32")


def test_test_initialization_and_compute_loss(make_solver: MakeSolver) -> None:
    _, lines = train(make_solver, max_iter=4, test_initialization=False, test_compute_loss=True)
    assert "Iteration 0, Testing net (#0)" not in lines
    after = lines[lines.index("Iteration 4, Testing net (#0)") :]
    assert any(line.startswith("Test loss: ") for line in after)


def test_testing_changes_no_training(make_solver: MakeSolver) -> None:
    seldom = make_solver(test_interval=100, test_initialization=False)
    seldom.step(6)
    often = make_solver(test_interval=1)
    often.step(6)
    assert_same_bits(weights(seldom), weights(often))
    assert [score.name for score in often.test(0)] == ["accuracy", "loss"]


@pytest.fixture
def echo() -> Net:
    """A net whose outputs are its input (2 numbers, blob y) and half their sum of squares (blob loss, weight 2)."""
    return Net(
        parse_net(
            'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }'
            'layer { name: "y" type: "Power" bottom: "x" top: "y" }'
            'layer { name: "loss" type: "Reduction" bottom: "x" top: "loss" loss_weight: 2 '
            "reduction_param { operation: SUMSQ coeff: 0.5 } }"
        ),
        phase="TEST",
    )


def test_means_over_batches(echo: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = iter([[1.0, 3.0], [5.0, 1.0]])
    plain = echo.forward_with_loss
    monkeypatch.setattr(echo, "forward_with_loss", lambda: plain(x=torch.tensor([next(batches)])))
    found = take_all(evaluate(echo, 2, RUN, compute_loss=True, interrupted=lambda: False))
    assert found == (18.0, [Score("loss", 9.0, 2.0), Score("y", 3.0), Score("y", 2.0)])


def test_no_loss_unless_asked_for(echo: Net) -> None:
    found = take_all(evaluate(echo, 1, RUN, compute_loss=False, interrupted=lambda: False))
    assert found is not None
    loss, scores = found
    assert loss is None
    assert [s.value for s in scores] == [0.0, 0.0, 0.0]
    assert take_all(evaluate(echo, 0, RUN, compute_loss=True, interrupted=lambda: False)) == (None, [])


def test_interrupted(echo: Net) -> None:
    answers = iter([False, True])
    assert take_all(evaluate(echo, 5, RUN, compute_loss=False, interrupted=lambda: next(answers))) is None


DETECTOR = """
net_param {
  layer { name: "found" type: "Input" top: "found" input_param { shape { dim: 1 dim: 1 dim: 3 dim: 7 } } }
  layer { name: "truth" type: "Input" top: "truth" input_param { shape { dim: 1 dim: 1 dim: 2 dim: 8 } } }
  layer { name: "eval" type: "DetectionEvaluate" bottom: "found" bottom: "truth" top: "eval"
          detection_evaluate_param { num_classes: 4 } include { phase: TEST } }
  layer { name: "quiet" type: "Silence" bottom: "found" bottom: "truth" include { phase: TRAIN } }
}
base_lr: 1 lr_policy: "fixed" max_iter: 1 test_iter: 2 test_interval: 1 snapshot_after_train: false
eval_type: "detection" ap_version: "MaxIntegral" show_per_class_result: true
"""
BOX, OTHER = [0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]
BATCHES = [
    ([[0, 1, 0.9, *BOX], [0, 1, 0.4, *OTHER], [0, 3, 0.3, *BOX]], [[0, 1, 0, *BOX, 0], [0, 2, 0, *BOX, 0]]),
    ([[0, 1, 0.6, *OTHER]], [[0, 1, 0, *BOX, 0], [0, 1, 0, *OTHER, 0]]),
]


def detecting_solver(monkeypatch: pytest.MonkeyPatch, text: str = DETECTOR) -> tuple[Solver, io.StringIO]:
    """A solver whose test net gets BATCHES, and its log."""
    stream = io.StringIO()
    solver = Solver(parse_message(text, SolverParameter()), log=Log(stream))
    net = solver.test_nets[0]
    batches, plain = iter(BATCHES), net.forward_with_loss

    def forward_with_loss() -> Result:
        found, truth = (torch.tensor(rows, dtype=torch.float32)[None, None] for rows in next(batches))
        return plain(found=found, truth=truth)

    monkeypatch.setattr(net, "forward_with_loss", forward_with_loss)
    return solver, stream


def test_mean_average_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    solver, stream = detecting_solver(monkeypatch)
    # label 1: true, true, false for 3 boxes; label 2 never found; label 3 found where there is none
    (score,) = solver.test(0)
    assert score.name == "eval"
    assert score.value == pytest.approx((2 / 3 + 0 + 0) / 3)
    lines = [line.split("] ", 1)[-1] for line in stream.getvalue().splitlines()]
    assert lines[-4:] == [
        "class1: 0.666667",
        "Missing true_pos for label: 2",
        "class3: 0",
        "    Test net output #0: eval = 0.222222",
    ]


def test_detections_have_no_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    solver, _ = detecting_solver(monkeypatch, DETECTOR.replace('eval_type: "detection"', ""))
    with pytest.raises(NetError, match=r'20 output values .* the one before 30; .* eval_type: "detection"'):
        solver.test(0)


def test_detection_of_other_outputs_is_refused(echo: Net) -> None:
    with pytest.raises(NetError, match='output "loss" has shape'):
        take_all(evaluate_detections(echo, 1, RUN, version="Integral", compute_loss=False, interrupted=lambda: False))
