"""The operator's checks, and a hand-computed update; its values against the rules are in tests/solver/rules."""

from typing import Any

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
    tail: tuple[Any, ...] = ([rate], [1.0], [0.0], None, 1.0, False, 0.9, 0.0, 0.0, False, [])
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_copies_are_the_new_values_rounded(rule: str, dtype: torch.dtype) -> None:
    """For some of the parameters, in their layouts, across the pieces that threads take; the update stays as it is."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(3, 5), (70000,), (4, 3, 2, 2)]

    def lists() -> UpdateTensors:
        generator.manual_seed(1)
        made = UpdateTensors()
        for field in (made.params, made.grads, made.first, made.second):
            field += [torch.rand(shape, generator=generator, dtype=dtype) for shape in shapes]
        for field in (made.params, made.first, made.second):
            field[2] = field[2].contiguous(memory_format=torch.channels_last)
        if rule == "SGD":
            made.second = []
        made.rates = [torch.tensor(0.1, dtype=torch.float64)] * 3
        made.lr_mults, made.decays = [1.0, 2.0, 0.5], [0.01] * 3
        return made

    plain, copied = lists(), lists()
    copied.copies = [torch.zeros_like(p, dtype=torch.bfloat16) for p in copied.params]
    copied.copies[0] = torch.empty(0)
    for tensors in (plain, copied):
        solver_update_(rule, tensors, momentum=0.9, momentum2=0.99, delta=1e-8)
    for a, b in zip(plain.params + plain.first, copied.params + copied.first, strict=True):
        assert torch.equal(a, b)
    for param, copy in list(zip(copied.params, copied.copies, strict=True))[1:]:
        assert torch.equal(copy, param.to(torch.bfloat16))


def test_a_copy_that_does_not_fit_is_refused() -> None:
    p, rate = torch.zeros(3, 2), torch.tensor(0.1, dtype=torch.float64)
    for copy, words in (
        ([], None),
        ([torch.zeros(3, 2, dtype=torch.bfloat16)] * 2, "1 params and 2 copies; expected as many, or none"),
        ([torch.zeros(2, 3, dtype=torch.bfloat16)], r"copy is BFloat16 \[2, 3\] on cpu but param is Float \[3, 2\]"),
        ([torch.zeros(3, 2)], r"copy is Float \[3, 2\] on cpu; expected bfloat16 on cpu"),
        ([torch.zeros(2, 3, dtype=torch.bfloat16).t()], r"copy has strides \[1, 3\], param \[2, 1\]"),
    ):
        tensors = UpdateTensors([p], [p.clone()], [p.clone()], [], [rate], [1.0], [0.0], copy)
        if words is None:
            solver_update_("SGD", tensors)
            continue
        with pytest.raises((ValueError, TypeError), match=words):
            solver_update_("SGD", tensors)
