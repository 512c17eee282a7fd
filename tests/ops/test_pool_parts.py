import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from caffe_compat.ops.lrn import reference as lrn_reference
from caffe_compat.ops.parts import join, split
from caffe_compat.ops.pool import reference as pool_reference
from caffe_compat.ops.pool_parts import lrn_gradient, pool_parts, pool_parts_backward
from tests.ops.pool_parts_cases import POOL_PARTS_CASES, PoolPartsCase
from tests.ops.test_parts import are_parts, dtypes, integers

#: relative to the largest value; LRN computes in float32 at least
TOLERANCES = {torch.float64: 1e-12, torch.float32: 5e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
ALPHA, K = 0.3, 2.0


def window(*pairs: tuple[int, int]) -> dict[str, Any]:
    """Keywords from kernel, stride, padding and, for the forward pass, out_size."""
    return dict(zip(("kernel", "stride", "padding", "out_size"), pairs, strict=False))


def close(actual: Tensor, expected: Tensor, tolerance: float) -> bool:
    scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    return torch.allclose(actual.double(), expected.double(), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("lrn", [False, True], ids=["pool", "pool_lrn"])
@pytest.mark.parametrize("case", POOL_PARTS_CASES, ids=str)
def test_equals_pooling_of_the_whole(case: PoolPartsCase, lrn: bool, device: torch.device) -> None:
    """Values and gradients against autograd through plain PyTorch; small integers, so that there are ties."""
    pool = case.pool
    norm: dict[str, Any] = {"local_size": 5 if lrn else 0, "alpha": ALPHA, "beta": pool.beta, "k": K}
    for with_bias in (False, True):
        x = integers(pool.input, 1, device, torch.float64).requires_grad_()
        bias = (integers((pool.input[1],), 2, device, torch.float64) * with_bias).requires_grad_()
        y = pool_reference(x + bias[:, None, None], *pool.window(), relu=pool.relu)
        if lrn:
            y = lrn_reference(y, 5, ALPHA, pool.beta, K)
        grad = integers(tuple(y.shape), 3, device, torch.float64)
        expected = (y, *torch.autograd.grad(y, (x, bias), grad))
        for dtype in dtypes(device):
            output, pooled, tap = pool_parts(
                split(x.detach().to(dtype), case.parts),
                bias.detach().float() if with_bias else None,
                **window(*pool.window()),
                relu=pool.relu,
                **norm,
                groups=case.groups,
            )
            assert are_parts(output, case.groups)
            assert tap.shape == y.shape
            assert pooled.shape == (y.shape if lrn else (0,))
            gradients = pool_parts_backward(
                split(grad.to(dtype), case.groups),
                pooled,
                tap,
                x.shape[2:],
                **window(*pool.window()[:3]),
                **norm,
                groups=case.parts,
            )
            assert are_parts(gradients[0], case.parts)
            actual = (join(output), join(gradients[0]), gradients[1])
            for a, e in zip(actual, expected, strict=True):
                tolerance = TOLERANCES[dtype] if lrn else 0.0
                assert close(a, e, 3 * tolerance if a.dim() == 1 else tolerance)


def test_the_parts_change_nothing(device: torch.device) -> None:
    """Bit for bit: LRN's window crosses from part to part."""
    x = torch.randn(2, 48, 9, 9, device=device).contiguous(memory_format=torch.channels_last)
    pairs = ((3, 3), (2, 2), (0, 0))
    norm: dict[str, Any] = {"local_size": 5, "alpha": ALPHA, "k": K}
    whole, pooled, tap = pool_parts([x], None, **window(*pairs, (4, 4)), **norm)
    dx, bias_grad = pool_parts_backward(whole, pooled, tap, (9, 9), **window(*pairs), **norm)
    for parts, groups in ((2, 3), (3, 1), (4, 4)):
        output, values, taps = pool_parts(split(x, parts), None, **window(*pairs, (4, 4)), **norm, groups=groups)
        gradients = pool_parts_backward(output, values, taps, (9, 9), **window(*pairs), **norm, groups=parts)
        assert torch.equal(join(output), whole[0])
        assert torch.equal(values, pooled)
        assert torch.equal(taps, tap)
        assert torch.equal(join(gradients[0]), dx[0])
        assert torch.equal(gradients[1], bias_grad)


def test_the_bias_rounds_as_before_the_maximum(device: torch.device) -> None:
    x, bias = torch.randn(2, 16, 9, 9, device=device), torch.randn(16, device=device)
    pairs = ((3, 3), (2, 2), (0, 0), (4, 4))
    for dtype, relu in itertools.product((torch.float32, torch.bfloat16), (False, True)):
        values = x.to(dtype)
        expected = pool_reference((values.float() + bias[:, None, None]).to(dtype), *pairs, relu=relu)
        output, _, tap = pool_parts([values], bias, **window(*pairs), relu=relu)
        assert torch.equal(output[0], expected)
        assert torch.equal(tap == 255, (expected <= 0) & relu)


def test_nan_is_passed_on(device: torch.device) -> None:
    x = torch.zeros(1, 16, 4, 4, device=device)
    x[0, 1, 1, 2] = torch.nan
    x[0, 2, 3, 3] = torch.inf
    x[0, 3] = -torch.inf
    pairs = ((2, 2), (2, 2), (0, 0), (2, 2))
    for bias, relu in itertools.product((None, torch.ones(16, device=device)), (False, True)):
        expected = pool_reference(x + (0 if bias is None else 1), *pairs, relu=relu)
        output = join(pool_parts([x], bias, **window(*pairs), relu=relu, groups=2)[0])
        assert torch.equal(output.nan_to_num(7), expected.nan_to_num(7))
        assert torch.equal(output.isnan(), expected.isnan())


def test_lrn_gradient() -> None:
    x = torch.randn(2, 7, 3, 2, dtype=torch.float64).requires_grad_()
    y = lrn_reference(x, 5, 0.7, 0.75, 2.0)
    grad = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, x, grad)
    assert torch.allclose(
        lrn_gradient(grad, x.detach(), local_size=5, alpha=0.7, beta=0.75, k=2.0), expected, rtol=1e-12
    )


def test_strided_gradients(device: torch.device) -> None:
    x = integers((2, 16, 7, 7), 1, device, torch.float32)
    _, pooled, tap = pool_parts([x], None, **window((3, 3), (2, 2), (0, 0), (3, 3)), groups=2)
    grad = torch.ones(1, device=device).expand(2, 16, 3, 3)
    results = [
        pool_parts_backward(parts, pooled, tap, (7, 7), **window((3, 3), (2, 2), (0, 0)))
        for parts in ([grad], split(grad, 4), [grad.contiguous()])
    ]
    for input_grad, bias_grad in results[1:]:
        assert torch.equal(input_grad[0], results[0][0][0])
        assert torch.equal(bias_grad, results[0][1])


def test_opcheck(device: torch.device) -> None:
    x, bias = integers((2, 16, 7, 6), 1, device, torch.float32), integers((16,), 2, device, torch.float32)
    pairs, operators = ([3, 3], [2, 2], [0, 0]), torch.ops.caffe_compat
    for local_size in (0, 5):
        norm = (local_size, 1.0, 0.75, 1.0)
        torch.library.opcheck(operators.pool_parts, (split(x, 2), bias, *pairs, [3, 3], True, *norm, 4))
        output, pooled, tap = operators.pool_parts([x], None, *pairs, [3, 3], False, *norm, 2)
        torch.library.opcheck(operators.pool_parts_backward, (output, pooled, tap, 7, 6, *pairs, *norm, 2))


def test_errors_say_what_came(device: torch.device) -> None:
    x, pairs = torch.zeros(1, 8, 7, 7, device=device), ((3, 3), (2, 2), (0, 0), (3, 3))
    with pytest.raises(ValueError, match=r"local_size is 3, beta 0\.75; expected local_size 5"):
        pool_parts([x], None, **window(*pairs), local_size=3)
    with pytest.raises(ValueError, match=r"bias is \(7,\); expected \(8,\)"):
        pool_parts([x], torch.zeros(7, device=device), **window(*pairs))
    with pytest.raises(ValueError, match=r"the last window starts outside the input \(7, 7\)"):
        pool_parts([x], None, **window((3, 3), (2, 2), (0, 0), (5, 3)))
    with pytest.raises(ValueError, match="padding below the kernel"):
        pool_parts([x], None, **window((3, 3), (2, 2), (3, 0), (3, 3)))
    with pytest.raises(ValueError, match="expected at most 255 taps"):
        pool_parts([x], None, **window((16, 16), (2, 2), (0, 0), (1, 1)))
    output, pooled, tap = pool_parts([x], None, **window(*pairs))
    with pytest.raises(ValueError, match=r"tap is torch.uint8 \(1, 4, 3, 3\); expected torch.uint8 \(1, 8, 3, 3\)"):
        pool_parts_backward(output, pooled, tap[:, :4], (7, 7), **window(*pairs[:3]))
    with pytest.raises(ValueError, match=r"pooled is torch.float32 \(0,\); expected torch.float32 \(1, 8, 3, 3\)"):
        pool_parts_backward(output, pooled, tap, (7, 7), **window(*pairs[:3]), local_size=5)
