"""float32 numbers as two TF32 numbers each, and the products that they make."""

import pytest
import torch

from caffe_compat.ops.tf32_split import FIRST, LOW_BITS, SECOND, reference, tf32_split


def is_tf32(x: torch.Tensor) -> bool:
    """Whether TF32 holds every value: the bits that it lacks are 0."""
    return bool((x.contiguous().view(torch.int32) & ((1 << LOW_BITS) - 1) == 0).all())


def test_values(device: torch.device) -> None:
    x = torch.tensor([1.0, 1 + 2**-11, 1 + 3 * 2**-11, -(1 + 2**-23), 0.0, -0.0, 3e38], device=device).view(1, 7, 1, 1)
    high, low, again = tf32_split(x, "hlh", 1).flatten().chunk(3)
    # Ties go away from zero.
    assert high.tolist() == [1.0, 1 + 2**-10, 1 + 2**-9, -1.0, 0.0, -0.0, high[6].item()]
    assert low.tolist() == [0.0, -(2**-11), -(2**-11), -(2**-23), 0.0, 0.0, low[6].item()]
    assert torch.equal(high, again)
    assert is_tf32(high)
    assert torch.equal(high + low, x.flatten())


def test_infinity_and_nan_stay_no_numbers(device: torch.device) -> None:
    x = torch.tensor([torch.inf, -torch.inf, torch.nan], device=device).view(1, 3, 1, 1)
    high, low, _ = tf32_split(x, "hlh", 1).flatten().chunk(3)
    assert not torch.isfinite(high + low).any()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_product_has_the_error_of_float32(axis: int, groups: int, device: torch.device) -> None:
    """Of numbers that TF32 holds three products sum to the float64 product within 2^-21."""
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(4, 6, 5, 3, generator=generator).to(device) for _ in range(2))
    first, second = tf32_split(a, FIRST, axis, groups), tf32_split(b, SECOND, axis, groups)
    assert first.is_contiguous(memory_format=torch.channels_last)
    shape = list(a.shape)
    pieces = [t.unflatten(axis, (groups, 3, shape[axis] // groups)) for t in (first, second)]
    products = (pieces[0].double() * pieces[1].double()).sum(axis + 1).flatten(axis, axis + 1)
    error = (products - a.double() * b.double()).abs() / (a.double() * b.double()).abs()
    assert error.max().item() < 2**-21


def test_the_twin_is_the_operator_on_the_cpu() -> None:
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(tf32_split(x, FIRST, 1, 2), reference(x, FIRST, 1, 2))


def test_errors_say_what_came() -> None:
    with pytest.raises(ValueError, match=r"input is torch.float64 \(1, 2, 3, 4\), order 'hlh', axis 1; expected"):
        tf32_split(torch.zeros(1, 2, 3, 4, dtype=torch.float64), FIRST, 1)
