"""Each step of the update's order, which all rules share."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from caffe_compat.errors import SolverError
from caffe_compat.solver import SGD, Adam, RMSProp, Rule
from tests.solver.rules.rule_cases import parameter


def test_no_clipping_below_the_norm_nor_when_negative() -> None:
    for clip in (5.0, -1.0):
        p = parameter(0.0, 0.0)
        optimizer = SGD([p], lr=1.0, clip_gradients=clip)
        p.grad = torch.tensor([3.0, 4.0], dtype=torch.float64)
        optimizer.step()
        assert p.tolist() == [-3.0, -4.0]


def test_clipping_zero_gradients_makes_no_nan() -> None:
    p = parameter(1.0)
    optimizer = SGD([p], lr=1.0, clip_gradients=0.0)
    p.grad = torch.zeros_like(p)
    optimizer.step()
    assert p.item() == 1.0


def test_histories_come_back() -> None:
    p, q = parameter(1.0, 2.0), parameter(3.0)
    optimizer = Adam([p, q], lr=0.1)
    p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
    optimizer.step()
    saved = optimizer.histories([p, q])
    other = Adam([p, q], lr=0.1)
    other.load_histories([p, q], saved)
    for a, b in zip(saved, other.histories([p, q]), strict=True):
        assert torch.equal(a, b)
    other.load_histories([p, q], [torch.zeros_like(h) for h in saved])
    assert not other.state  # nothing to move: as good as new


def test_keep_update_leaves_the_update_in_the_gradient() -> None:
    p = parameter(1.0)
    optimizer = SGD([p], lr=0.1, momentum=0.9)
    optimizer.keep_update = True
    p.grad = torch.full_like(p, 2.0)
    optimizer.step()
    assert p.grad.item() == pytest.approx(0.2)
    assert p.item() == pytest.approx(0.8)


def test_works_with_a_torch_scheduler_and_closure() -> None:
    p = parameter(4.0)
    optimizer = SGD([p], lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 16.0
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert p.item() == pytest.approx(4.0 - 0.1 * 8.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: SGD(p, lr=0.1, regularization_type="L3"), 'regularization_type is "L3"'),
        (lambda p: SGD(p, lr=0.1, iter_size=0), "iter_size is 0"),
        (lambda p: RMSProp(p, lr=0.1, rms_decay=1.0), "rms_decay is 1"),
        (lambda p: Adam(p, lr=0.1, momentum=1.0), "momentum is 1"),
    ],
)
def test_refusals(make: Callable[[list[torch.nn.Parameter]], Rule], message: str) -> None:
    with pytest.raises(SolverError, match=message):
        make([parameter(1.0)])


def test_a_changed_formula_does_not_run_the_inherited_kernel() -> None:
    class Doubled(SGD):
        def compute_update(
            self, grads: list[Tensor], histories: list[list[Tensor]], rate: float, group: dict[str, Any]
        ) -> list[Tensor]:
            return [2 * u for u in super().compute_update(grads, histories, rate, group)]

    p = parameter(1.0)
    optimizer = Doubled([p], lr=0.25)
    assert (optimizer.kernel, optimizer.fused) == ("", False)
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert p.item() == 0.5
