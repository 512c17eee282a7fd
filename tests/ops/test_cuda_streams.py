"""What only a GPU can show of LRN and pooling: work on streams of one's own, and the same bits in every run."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from caffe_compat.ops import lrn, max_pool, relu_pool_lrn

WINDOW = ((3, 3), (2, 2), (0, 0), (6, 6))
SHAPE = (4, 20, 13, 13)
OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "lrn": lrn,
    "lrn of 7": lambda x: lrn(x, 7),
    "lrn within": lambda x: lrn(x, 3, norm_region="WITHIN_CHANNEL"),
    "max_pool": lambda x: max_pool(x, *WINDOW),
    "relu_pool_lrn": lambda x: relu_pool_lrn(x, *WINDOW),
    "relu_pool_lrn of 7": lambda x: relu_pool_lrn(x, *WINDOW, local_size=7),
}
LAYOUTS = [torch.contiguous_format, torch.channels_last]

pytestmark = pytest.mark.parametrize("device", ["cuda"], indirect=True)


def forward_backward(operator: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    leaf = x.detach().requires_grad_()
    y = operator(leaf)
    return [y.detach(), *torch.autograd.grad(y.sum(), leaf)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_another_stream(
    operator: Callable[[Tensor], Tensor], layout: torch.memory_format, device: torch.device
) -> None:
    source = torch.randn(SHAPE, device=device).contiguous(memory_format=layout)
    expected = forward_backward(operator, source)
    x = torch.full_like(source, torch.nan)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # a kernel on the default stream would read the NaN
        x.copy_(source)
        actual = forward_backward(operator, x)
    stream.synchronize()
    for a, e in zip(actual, expected, strict=True):
        assert torch.equal(a, e)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_runs_repeat_bit_for_bit(
    operator: Callable[[Tensor], Tensor], layout: torch.memory_format, device: torch.device
) -> None:
    x = torch.randn(SHAPE, device=device).contiguous(memory_format=layout)
    first = forward_backward(operator, x)
    for _ in range(3):
        for a, e in zip(forward_backward(operator, x), first, strict=True):
            assert torch.equal(a, e)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_strided_and_misaligned_input(
    operator: Callable[[Tensor], Tensor], dtype: torch.dtype, device: torch.device
) -> None:
    n, c, h, w = SHAPE
    strided = torch.randn(w, h, c, 2 * n, device=device, dtype=dtype).permute(3, 2, 1, 0)[::2]
    # One element off the allocation: no 16-byte access may be tried.
    misaligned = torch.empty(strided.numel() + 1, device=device, dtype=dtype)[1:].view(SHAPE).copy_(strided)
    last = torch.empty(strided.numel() + 1, device=device, dtype=dtype)[1:].view(n, h, w, c).permute(0, 3, 1, 2)
    expected = forward_backward(operator, strided.contiguous())
    for x in (strided, misaligned, last.copy_(strided)):
        for a, e in zip(forward_backward(operator, x), expected, strict=True):
            assert torch.allclose(a, e, rtol=1e-2 if dtype == torch.float16 else 1e-5, atol=1e-3)
