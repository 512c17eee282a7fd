"""The window of losses."""

import math

import pytest
import torch

from caffe_compat.solver.smoothed_loss import SmoothedLoss
from tests.solver.conftest import MakeSolver


def test_average_loss_is_a_mean_over_a_window(make_solver: MakeSolver) -> None:
    losses = []
    solver = make_solver(display=0, test_interval=4, average_loss=3)
    solver.add_callback(on_gradients_ready=lambda s: losses.append(float(s.train_outputs()["loss"])))
    solver.step(2)
    assert solver.smoothed.value() == pytest.approx(sum(losses) / 2)
    solver.step(5)  # a new call starts a new window
    assert solver.smoothed.value() == pytest.approx(sum(losses[-3:]) / 3)


def test_oldest_leave_a_full_window() -> None:
    smoothed = SmoothedLoss(2)
    assert math.isnan(smoothed.value())
    for value, mean in ((4.0, 4.0), (2.0, 3.0), (1.0, 1.5)):
        smoothed.add(torch.tensor(value))
        assert smoothed.value() == mean
    other = SmoothedLoss(2)
    other.set_state(smoothed.get_state(), torch.device("cpu"))
    assert other.get_state() == [2.0, 1.0]
    other.add(torch.tensor(3.0))
    assert other.value() == 2.0
    other.clear()
    assert other.get_state() == []
