import itertools

import pytest
import torch
from torch import Tensor

from caffe_compat.ops.parts import (
    CUDA_DTYPES,
    bias_relu_backward_reference,
    bias_relu_parts,
    bias_relu_parts_backward,
    bias_relu_reference,
    join,
    split,
)
from tests.ops.parts_cases import PARTS_CASES, PartsCase


def integers(shape: tuple[int, ...], seed: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Small ones: their sums are exact in every dtype."""
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def dtypes(device: torch.device) -> tuple[torch.dtype, ...]:
    return CUDA_DTYPES if device.type == "cuda" else (*CUDA_DTYPES, torch.float64)


def are_parts(parts: list[Tensor], groups: int) -> bool:
    return len(parts) == groups and all(
        not part.numel() or part.is_contiguous(memory_format=torch.channels_last) for part in parts
    )


@pytest.mark.parametrize("case", PARTS_CASES, ids=str)
def test_bias_and_relu(case: PartsCase, device: torch.device) -> None:
    for dtype, relu, with_bias in itertools.product(dtypes(device), (False, True), (False, True)):
        x = integers(case.whole, 1, device, dtype)
        for bias in (integers((case.whole[1],), 2, device, kind) for kind in {torch.float32, dtype}):
            expected = x + bias.to(dtype)[:, None, None] if with_bias else x
            output = bias_relu_parts(split(x, case.parts), bias if with_bias else None, relu=relu, groups=case.groups)
            assert output[0].dtype == dtype
            assert are_parts(output, case.groups)
            assert torch.equal(join(output), expected.clamp(min=0) if relu else expected)


@pytest.mark.parametrize("case", PARTS_CASES, ids=str)
def test_gradients(case: PartsCase, device: torch.device) -> None:
    for dtype, relu in itertools.product(dtypes(device), (False, True)):
        grad, output = (integers(case.whole, seed, device, dtype) for seed in (1, 2))
        expected = grad * (output > 0) if relu else grad
        input_grad, bias_grad = bias_relu_parts_backward(
            split(grad, case.groups), split(output, case.groups), relu=relu, groups=case.parts
        )
        assert are_parts(input_grad, case.parts)
        assert torch.equal(join(input_grad), expected)
        assert bias_grad.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert torch.equal(bias_grad.double(), expected.double().sum((0, 2, 3)))
        input_grad, bias_grad = bias_relu_parts_backward(
            split(grad, case.groups), split(output, case.groups), relu=relu, groups=case.parts, scale=1.5
        )
        assert torch.equal(join(input_grad), expected * 1.5)
        assert torch.equal(bias_grad.double(), expected.double().sum((0, 2, 3)) * 1.5)


def test_autograd_agrees(device: torch.device) -> None:
    x, bias = torch.randn(2, 16, 5, 6, device=device).requires_grad_(), torch.randn(16, device=device).requires_grad_()
    y = torch.relu(x + bias[:, None, None])
    grad = torch.randn_like(y)
    expected = torch.autograd.grad(y, (x, bias), grad)
    with torch.no_grad():
        input_grad, bias_grad = bias_relu_parts_backward([grad], split(y, 2), groups=4)
    assert torch.equal(join(input_grad), expected[0])
    assert torch.allclose(bias_grad, expected[1], rtol=1e-5, atol=1e-5)


def test_the_sum_is_rounded_once(device: torch.device) -> None:
    x, bias = torch.randn(1, 16, 9, 9, device=device).bfloat16(), torch.randn(16, device=device)
    expected = (x.double() + bias.double()[:, None, None]).float().bfloat16()
    assert torch.equal(join(bias_relu_parts([x], bias, relu=False, groups=2)), expected)


def test_nan_is_passed_on_and_gets_no_gradient(device: torch.device) -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, -1, 1, 0, 2, 3], device=device).view(1, 8, 1, 1)
    output = bias_relu_parts([x], groups=2)
    expected = torch.tensor([torch.nan, torch.inf, 0, 0, 1, 0, 2, 3], device=device).view(1, 8, 1, 1)
    assert torch.equal(join(output).nan_to_num(9, posinf=7), expected.nan_to_num(9, posinf=7))
    input_grad, _ = bias_relu_parts_backward([torch.ones_like(x)], output)
    assert join(input_grad).flatten().tolist() == [0, 1, 0, 0, 1, 0, 1, 1]


def test_strided_gradients(device: torch.device) -> None:
    output = integers((2, 16, 4, 5), 1, device, torch.float32)
    wide = integers((2, 32, 4, 5), 2, device, torch.float32)
    for grad in (wide[:, ::2], torch.ones(1, device=device).expand(2, 16, 4, 5)):
        input_grad, bias_grad = bias_relu_parts_backward([grad], [output], groups=2)
        assert torch.equal(join(input_grad), grad * (output > 0))
        assert torch.equal(bias_grad, (grad * (output > 0)).sum((0, 2, 3)))


def test_views_that_start_anywhere(device: torch.device) -> None:
    """At no 16-byte boundary."""
    memory = integers((2 * 16 * 3 * 3 + 1,), 1, device, torch.float16)
    x = memory[1:].view(2, 3, 3, 16).permute(0, 3, 1, 2)
    assert torch.equal(join(bias_relu_parts([x], relu=True, groups=2)), x.clamp(min=0))


def test_the_same_sums_in_every_run(device: torch.device) -> None:
    grad, output = (torch.randn(4, 64, 30, 31, device=device) for _ in range(2))
    sums = [bias_relu_parts_backward([grad], [output])[1] for _ in range(3)]
    assert torch.equal(sums[0], sums[1])
    assert torch.equal(sums[0], sums[2])
    expected = (grad.double() * (output > 0)).sum((0, 2, 3))
    assert torch.allclose(sums[0].double(), expected, rtol=1e-5, atol=1e-3)


def test_opcheck(device: torch.device) -> None:
    x, bias = integers((2, 16, 4, 5), 1, device, torch.float32), integers((16,), 2, device, torch.float32)
    operators = torch.ops.caffe_compat
    torch.library.opcheck(operators.bias_relu_parts, (split(x, 2), bias, True, 1))
    torch.library.opcheck(operators.bias_relu_parts, ([x], None, False, 4))
    torch.library.opcheck(operators.bias_relu_parts_backward, (split(x, 2), [x], True, 4))


def test_the_twins_are_the_operators_on_the_cpu() -> None:
    x, bias = torch.randn(2, 6, 4, 5), torch.randn(6)
    assert torch.equal(bias_relu_reference([x], bias, True, 1)[0], bias_relu_parts([x], bias)[0])
    (plain,), plain_sums = bias_relu_backward_reference([x], [-x], True, 1)
    (actual,), sums = bias_relu_parts_backward([x], [-x])
    assert torch.equal(plain, actual)
    assert torch.equal(plain_sums, sums)


def test_errors_say_what_came(device: torch.device) -> None:
    x = torch.zeros(1, 6, 2, 2, device=device)
    with pytest.raises(ValueError, match="input has 5 parts; expected 1 to 4"):
        bias_relu_parts([x] * 5)
    with pytest.raises(ValueError, match="groups is 4 for 6 channels; expected 1 to 4, a divisor of them"):
        bias_relu_parts([x], groups=4)
    with pytest.raises(ValueError, match=r"bias is \(5,\); expected \(6,\)"):
        bias_relu_parts([x], torch.zeros(5, device=device))
    with pytest.raises(ValueError, match=r"parts torch.float16 \(1, 6, 2, 2\) and torch.float32 \(1, 6, 2, 2\)"):
        bias_relu_parts([x, x.half()])
    with pytest.raises(ValueError, match="output has other channels than the 6 of grad"):
        bias_relu_parts_backward([x], [x, x])
