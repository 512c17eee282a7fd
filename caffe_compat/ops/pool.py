"""Max pooling over Caffe's windows, alone or as the chain ReLU, max pooling, LRN in one pass over the memory.

N C H W in shape comments: batch, channels, height, width.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat import extension
from caffe_compat.ops.lrn import reference as lrn_reference

HAS_KERNELS = extension.load() is not None

MOST_TAPS = 255  # the place of the maximum within its window is kept in one byte
CPU_DTYPES = (torch.float32, torch.float64)
CUDA_DTYPES = (*CPU_DTYPES, torch.float16, torch.bfloat16)

Pair = Sequence[int]


def max_pool(input: Tensor, kernel: Pair, stride: Pair, padding: Pair, out_size: Pair, *, relu: bool = False) -> Tensor:
    """The maximum of each window, clipped to the input; with ``relu``, of max(input, 0).

    Window (i, j) of (H', W') = ``out_size`` starts at (i, j) * stride - padding, so that Caffe's rounding up and
    PyTorch's rounding down are both a matter of ``out_size``.  The first of equal maxima, row by row, gets the
    gradient; NaN is passed on.  All pairs are (height, width).

    input (N, C, H, W), float32 or float64, on CUDA also float16 and bfloat16; contiguous and channels_last are taken
    as they are, and the result (N, C, H', W') has the same layout.  ValueError for padding as large as the kernel, a
    window that starts outside the input, or more than 255 taps; TypeError for another dtype.  Not twice
    differentiable.
    """
    if not HAS_KERNELS:
        return reference(input, kernel, stride, padding, out_size, relu=relu)
    output: Tensor = torch.ops.caffe_compat.max_pool(input, kernel, stride, padding, out_size, relu)[0]
    return output


def relu_pool_lrn(
    input: Tensor,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    out_size: Pair,
    *,
    relu: bool = True,
    local_size: int = 5,
    alpha: float = 1.0,
    beta: float = 0.75,
    k: float = 1.0,
) -> Tensor:
    """``lrn(max_pool(input, ..., relu), local_size, alpha, beta, k)``, bit for bit, in one pass over the memory.

    This chain follows conv1 and conv2 in CaffeNet.

    Shapes, dtypes and errors are those of ``max_pool`` and ``lrn`` (ACROSS_CHANNELS).  For the gradient the pooled
    values and a byte for each of them are kept, not the input.
    """
    window, norm = (kernel, stride, padding, out_size), (local_size, alpha, beta, k)
    if not HAS_KERNELS:
        return lrn_reference(reference(input, *window, relu=relu), *norm)
    output: Tensor = torch.ops.caffe_compat.relu_pool_lrn(input, *window, relu, *norm)[0]
    return output


def reference(
    input: Tensor, kernel: Pair, stride: Pair, padding: Pair, out_size: Pair, *, relu: bool = False
) -> Tensor:
    """``max_pool`` in plain PyTorch: pad until every window lies inside, then pool."""
    if relu:
        input = functional.relu(input)
    ends = [(out_size[i] - 1) * stride[i] + kernel[i] for i in (0, 1)]
    after = [max(0, ends[i] - padding[i] - input.shape[2 + i]) for i in (0, 1)]
    padded = functional.pad(input, (padding[1], after[1], padding[0], after[0]), value=-torch.inf)
    return functional.max_pool2d(padded[:, :, : ends[0], : ends[1]], tuple(kernel), tuple(stride))


def chain_reference(
    input: Tensor,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    out_size: Pair,
    *,
    relu: bool = True,
    local_size: int = 5,
    alpha: float = 1.0,
    beta: float = 0.75,
    k: float = 1.0,
) -> Tensor:
    """``relu_pool_lrn`` in plain PyTorch."""
    pooled = reference(input, kernel, stride, padding, out_size, relu=relu)
    return lrn_reference(pooled, local_size, alpha, beta, k)


def _like(input: Tensor, sizes: Sequence[Any], dtype: torch.dtype | None = None) -> Tensor:
    """An uninitialised tensor with the batch, channels and layout of ``input`` and these (height, width)."""
    channels_last = not input.is_contiguous() and input.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(
        (*input.shape[:2], *sizes), dtype=dtype or input.dtype, device=input.device, memory_format=layout
    )


@extension.fake_kernel("max_pool")
def _max_pool_fake(
    input: Tensor, kernel: Pair, stride: Pair, padding: Pair, out_size: Pair, *relu: Any
) -> tuple[Tensor, Tensor]:
    return _like(input, out_size), _like(input, out_size, torch.uint8)


@extension.fake_kernel("max_pool_backward")
def _max_pool_backward_fake(grad: Tensor, tap: Tensor, height: int, width: int, *window: Any) -> Tensor:
    return _like(tap, (height, width), grad.dtype)


@extension.fake_kernel("relu_pool_lrn")
def _chain_fake(
    input: Tensor, kernel: Pair, stride: Pair, padding: Pair, out_size: Pair, *arguments: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _like(input, out_size), _like(input, out_size), _like(input, out_size, torch.uint8)


@extension.fake_kernel("relu_pool_lrn_backward")
def _chain_backward_fake(grad: Tensor, pooled: Tensor, tap: Tensor, height: int, width: int, *arguments: Any) -> Tensor:
    return _like(tap, (height, width), grad.dtype)


# The places of the maxima are for the backward pass alone.
@extension.plain_twin("max_pool")
def _max_pool_plain(input: Tensor, *window: Any) -> tuple[Tensor, None]:
    *sizes, relu = window
    return reference(input, *sizes, relu=relu), None


@extension.plain_twin("relu_pool_lrn")
def _chain_plain(input: Tensor, *arguments: Any) -> tuple[Tensor, None, None]:
    pooled, _ = _max_pool_plain(input, *arguments[:5])
    return lrn_reference(pooled, *arguments[5:]), None, None
