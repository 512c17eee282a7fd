"""The operator's checks, and a hand-computed update; its values against the rules are in tests/solver/rules."""

import pytest
import torch

from caffe_compat.ops import solver_update_
from caffe_compat.ops.solver_update import UpdateTensors
from caffe_compat.solver import SGD
from tests.solver.rules.rule_cases import parameter


def test_one_sgd_update_by_hand() -> None:
    """g = 4 * 0.5 * 0.25 + 0.5 * 2 = 1.5; v = 0.5 * 1 + 0.1 * 2 * 1.5 = 0.8; w = 2 - 0.8."""
    weight, gradient, velocity = (torch.tensor([x], dtype=torch.float64) for x in (2.0, 4.0, 1.0))
    rate = torch.tensor(0.1, dtype=torch.float64)
    tensors = UpdateTensors([weight], [gradient], [velocity], [], [rate], [2.0], [0.5])
    clip = torch.tensor(0.5, dtype=torch.float64)
    solver_update_("SGD", tensors, clip=clip, gradient_scale=0.25, momentum=0.5, keep_update=True)
    assert weight.item() == pytest.approx(1.2)
    assert velocity.item() == pytest.approx(0.8)
    assert gradient.item() == pytest.approx(0.8)


def test_fused_update_makes_old_values_unusable() -> None:
    p = parameter(2.0)
    optimizer = SGD([p], lr=0.1)
    loss = (p * p * p).sum()
    p.grad = torch.ones_like(p)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_fused_operator_refuses_wrong_lists() -> None:
    p = torch.zeros(3)
    update = torch.ops.caffe_compat.solver_update_
    rate = torch.tensor(0.1, dtype=torch.float64)
    tail = ([rate], [1.0], [0.0], None, 1.0, False, 0.9, 0.0, 0.0, False)
    with pytest.raises(ValueError, match="rule is Momentum"):
        update("Momentum", [p], [p], [p], [], *tail)
    with pytest.raises(ValueError, match="1 params, 1 grads, 1 first and 0 second histories"):
        update("Adam", [p], [p.clone()], [p.clone()], [], *tail)
    with pytest.raises(ValueError, match=r"grad is Float \[2\] on cpu but param is Float \[3\]"):
        update("SGD", [p], [torch.zeros(2)], [p.clone()], [], *tail)
    with pytest.raises(TypeError, match="expected float32 or float64"):
        update("SGD", [p.half()], [p.half()], [p.half()], [], *tail)
    with pytest.raises(ValueError, match="1 params, 0 rates, 1 lr_mults and 1 decays"):
        update("SGD", [p], [p.clone()], [p.clone()], [], [], *tail[1:])
    with pytest.raises(ValueError, match=r"rate is Float \[\] on cpu; expected one float64 number on cpu"):
        update("SGD", [p], [p.clone()], [p.clone()], [], [rate.float()], *tail[1:])
    with pytest.raises(ValueError, match=r"clip is Float \[3\] on cpu; expected one number"):
        update("SGD", [p], [p.clone()], [p.clone()], [], *tail[:3], p.clone(), *tail[4:])
