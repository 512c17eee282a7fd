"""Test passes: means over batches, and what they leave alone."""

from functools import partial

import pytest
import torch

from caffe_compat.net import Net
from caffe_compat.proto import parse_net
from caffe_compat.solver import Score
from caffe_compat.solver.evaluation import evaluate, forward
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
    found = evaluate(echo, 2, RUN, compute_loss=True, interrupted=lambda: False)
    assert found == (18.0, [Score("loss", 9.0, 2.0), Score("y", 3.0), Score("y", 2.0)])


def test_no_loss_unless_asked_for(echo: Net) -> None:
    found = evaluate(echo, 1, RUN, compute_loss=False, interrupted=lambda: False)
    assert found is not None
    loss, scores = found
    assert loss is None
    assert [s.value for s in scores] == [0.0, 0.0, 0.0]
    assert evaluate(echo, 0, RUN, compute_loss=True, interrupted=lambda: False) == (None, [])


def test_interrupted(echo: Net) -> None:
    answers = iter([False, True])
    assert evaluate(echo, 5, RUN, compute_loss=False, interrupted=lambda: next(answers)) is None
