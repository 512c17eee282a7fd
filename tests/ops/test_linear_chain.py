"""InnerProduct, ReLU and Dropout in one, against the same by PyTorch's operators one by one."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.ops.linear_chain import linear_chain

#: relative to the largest value: sums of float32 in another order; one rounding of results to bfloat16
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2**-8}
RATIO = 0.3


def tensors(device: torch.device) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((6, 20), (16, 20), (16,))
    return [torch.randn(shape, generator=generator).to(device).requires_grad_() for shape in shapes]


def one_by_one(values: list[Tensor], dtype: torch.dtype, relu: bool, dropout: float) -> Tensor:
    """As autocast has it: parameters are rounded, their gradients, too."""
    x, weight, bias = (value.to(dtype) for value in values)
    top = functional.linear(x, weight, bias)
    top = top.relu() if relu else top
    return torch.native_dropout(top, dropout, True)[0] if dropout else top


def close(actual: Tensor, expected: Tensor, tolerance: float) -> bool:
    return bool((actual - expected).abs().max() <= tolerance * expected.abs().max())


@pytest.mark.parametrize("dropout", [0.0, RATIO])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_of_the_operators_one_by_one(dtype: torch.dtype, relu: bool, dropout: float, device: torch.device) -> None:
    """Tops, masks and the bottom's gradient, on the CPU, where both have one kernel for the product.

    The parameters' gradients are not rounded to bfloat16.
    """
    values = tensors(device)
    torch.manual_seed(2)
    expected = one_by_one(values, dtype, relu, dropout)
    torch.manual_seed(2)
    actual = linear_chain(*values, dtype=dtype, relu=relu, dropout=dropout)
    assert actual.dtype == dtype
    equal = torch.equal if device.type == "cpu" else partial(close, tolerance=TOLERANCES[dtype])
    assert equal(actual, expected)
    assert (actual == 0).float().mean() > (0.4 if relu else 0.1 if dropout else -1)
    grad = torch.randn(actual.shape, generator=torch.Generator().manual_seed(3)).to(device, dtype)
    ours, theirs = (torch.autograd.grad(top, values, grad) for top in (actual, expected))
    assert equal(ours[0], theirs[0])
    assert [g.dtype for g in ours] == [torch.float32] * 3
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        assert close(mine, other, TOLERANCES[dtype])


@pytest.mark.parametrize("relu", [False, True])
def test_gradients_of_bfloat16_products_are_their_float32_sums(relu: bool, device: torch.device) -> None:
    values = tensors(device)
    top = linear_chain(*values, dtype=torch.bfloat16, relu=relu)
    grad = torch.randn(top.shape, generator=torch.Generator().manual_seed(3)).to(device, torch.bfloat16)
    _, weight_grad, bias_grad = torch.autograd.grad(top, values, grad)
    passed = grad.double() * (top > 0) if relu else grad.double()
    x = values[0].detach().bfloat16().double()
    assert close(weight_grad.double(), passed.t() @ x, 1e-6)
    assert close(bias_grad.double(), passed.sum(0), 1e-6)


def test_nothing_is_kept_or_computed_for_what_is_frozen(device: torch.device) -> None:
    x, weight, bias = tensors(device)
    kept: list[tuple[int, ...]] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        top = linear_chain(x, weight.detach(), bias.detach(), dtype=torch.float32, relu=True)
        assert sorted(kept) == [(6, 16), (16, 20)]
        top.sum().backward()
        kept.clear()
        linear_chain(x.detach(), weight, None, dtype=torch.float32).sum().backward()
        assert kept == [(6, 20)]
    assert x.grad is not None
    assert weight.grad is not None


def test_dropout_without_relu_has_its_own_mask(device: torch.device) -> None:
    """A negative value passes, and its gradient with it."""
    x = torch.full((1, 1000), -1.0, device=device, requires_grad=True)
    top = linear_chain(x, torch.eye(1000, device=device), None, dtype=torch.float32, dropout=RATIO)
    (grad,) = torch.autograd.grad(top.sum(), x)
    assert torch.equal(grad, torch.where(top < 0, torch.tensor(1 / (1 - RATIO), device=device), 0))
    assert 200 < int((top == 0).sum()) < 400


def test_it_is_not_twice_differentiable(device: torch.device) -> None:
    values = tensors(device)
    (grad,) = torch.autograd.grad(
        linear_chain(*values, dtype=torch.float32).square().sum(), values[0], create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
