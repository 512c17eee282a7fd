import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat.ops.space_to_depth import DTYPES, depth, reference, space_to_depth
from tests.ops.space_to_depth_cases import SPACE_TO_DEPTH_CASES, SpaceToDepthCase


def element_by_element(x: Tensor, case: SpaceToDepthCase) -> Tensor:
    """By the letter of the docstring."""
    n, channels, height, width = x.shape
    block = case.block
    out = x.new_zeros((n, depth(channels, block), *case.out_size))
    places = itertools.product(range(channels), range(block), range(block), *map(range, case.out_size))
    for c, dy, dx, y, column in places:
        h, w = y * block + dy - case.padding[0], column * block + dx - case.padding[1]
        if 0 <= h < height and 0 <= w < width:
            out[:, (c * block + dy) * block + dx, y, column] = x[:, c, h, w]
    return out


def layouts(x: Tensor) -> list[Tensor]:
    """The values as contiguous, as channels_last and in a view with gaps."""
    wide = torch.full((*x.shape[:3], 2 * x.shape[3]), torch.nan, dtype=x.dtype, device=x.device)
    wide[..., ::2] = x
    return [x.contiguous(), x.contiguous(memory_format=torch.channels_last), wide[..., ::2]]


@pytest.mark.parametrize("case", SPACE_TO_DEPTH_CASES, ids=str)
def test_values(case: SpaceToDepthCase, device: torch.device) -> None:
    values = torch.randn(case.input, generator=torch.Generator().manual_seed(1)).to(device)
    for of, to in itertools.product(DTYPES, DTYPES):
        x = values.to(of)
        expected = element_by_element(x, case).to(to)
        for laid_out in layouts(x):
            actual = space_to_depth(laid_out, case.block, case.padding, case.out_size, dtype=to)
            assert actual.dtype == to
            assert torch.equal(actual, expected)
            assert actual.is_contiguous(memory_format=torch.channels_last)


def test_a_convolution_with_a_stride_becomes_one_without(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(-8, 9, (2, 3, 23, 27), generator=generator).float().to(device)
    weight = torch.randint(-8, 9, (5, 3, 11, 11), generator=generator).float().to(device)
    expected = functional.conv2d(x, weight, stride=4)
    blocks = space_to_depth(x, 4, (0, 0), (expected.shape[2] + 2, expected.shape[3] + 2))
    weight_blocks = space_to_depth(weight, 4, (0, 0), (3, 3))
    assert torch.equal(functional.conv2d(blocks, weight_blocks), expected)


def test_opcheck(device: torch.device) -> None:
    x = torch.randn(2, 3, 9, 10, device=device)
    operator = torch.ops.caffe_compat.space_to_depth
    torch.library.opcheck(operator, (x, 4, [1, 0], [3, 2], torch.bfloat16))
    torch.library.opcheck(operator, (x.contiguous(memory_format=torch.channels_last), 2, [0, 0], [5, 5], x.dtype))


def test_the_twin_is_the_operator_on_the_cpu() -> None:
    x = torch.randn(2, 3, 9, 10)
    assert torch.equal(reference(x, 4, (0, 1), (2, 3), x.dtype), space_to_depth(x, 4, (0, 1), (2, 3)))


def test_errors_say_what_came(device: torch.device) -> None:
    x = torch.zeros(1, 65, 4, 4, device=device)
    with pytest.raises(ValueError, match="input has 65 channels, which make 1040 with block 4; expected 1 to 1024"):
        space_to_depth(x, 4, (0, 0), (1, 1))
    with pytest.raises(ValueError, match=r"block 2, padding \(-1, 0\), out_size \(1, 1\); expected block and size"):
        space_to_depth(x, 2, (-1, 0), (1, 1))
    with pytest.raises(ValueError, match="input has 3 axes; expected 4"):
        space_to_depth(x[0], 2, (0, 0), (1, 1))
