"""From a solver file to the rule and its groups."""

from pathlib import Path

import pytest
import torch

from caffe_compat.proto import caffe_pb2, parse_message
from caffe_compat.solver import Adam, Log, Solver
from tests.solver.conftest import NET, SOLVER, MakeSolver


def test_two_rate_groups_in_caffes_order_of_histories(make_solver: MakeSolver) -> None:
    solver = make_solver()
    assert [(g["lr_mult"], g["decay_mult"]) for g in solver.optimizer.param_groups] == [(1.0, 1.0), (2.0, 0.0)]
    shapes = [tuple(h.shape) for h in solver.optimizer.histories(p.parameter for p in solver.net.learnable)]
    assert shapes == [tuple(p.parameter.shape) for p in solver.net.learnable]


def test_frozen_bottom_layers_get_no_gradient(job: Path) -> None:
    Path("net.prototxt").write_text(NET.replace("lr_mult: 1 }", "lr_mult: 0 }").replace("lr_mult: 2", "lr_mult: 0"))
    solver = Solver(parse_message(SOLVER, caffe_pb2.SolverParameter()), log=Log(enabled=False))
    before = [p.detach().clone() for p in solver.net.params["conv"]]
    solver.step(3)
    for ours, old in zip(solver.net.params["conv"], before, strict=True):
        assert not ours.requires_grad
        assert torch.equal(ours, old)
    solver.close()


def test_settings_come_from_the_file(make_solver: MakeSolver) -> None:
    fields = {"type": "Adam", "momentum2": 0.5, "delta": 0.25, "clip_gradients": 3.0, "iter_size": 2}
    rule = make_solver(**fields, regularization_type="L1", snapshot_diff=True).optimizer
    assert isinstance(rule, Adam)
    group = rule.param_groups[0]
    assert (group["momentum2"], group["delta"], group["lr"]) == (0.5, 0.25, pytest.approx(0.05))
    assert (group["momentum"], group["weight_decay"]) == (pytest.approx(0.9), pytest.approx(0.001))
    assert (rule.clip_gradients, rule.iter_size, rule.regularization_type, rule.keep_update) == (3.0, 2, "L1", True)
