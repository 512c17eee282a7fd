"""Max pooling with a bias, ReLU and LRN, between channels in parts (``caffe_compat.ops.parts`` says what those are).

What lies between two convolutions of a fast net, in one pass over the memory.  N C H W in shape comments: batch,
channels, height, width; H' W': those of the pooled values.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from caffe_compat import extension
from caffe_compat.ops.lrn import reference as lrn_reference
from caffe_compat.ops.parts import Parts, add_bias, check_parts, empty_parts, join, split, whole_shape, wide_dtype
from caffe_compat.ops.pool import MOST_TAPS

HAS_KERNELS = extension.load() is not None

NO_TAP = 255  # of a window through which no gradient flows

Pair = Sequence[int]
Window = tuple[Pair, Pair, Pair, Pair]  # kernel, stride, padding, out_size


def takes_norm(local_size: int, beta: float) -> bool:
    """Whether ``pool_parts`` takes an LRN of this kind; 0 stands for none."""
    return local_size == 0 or (local_size == 5 and beta in (0.5, 0.75, 1.0))


def pool_parts(
    input: Parts,
    bias: Tensor | None,
    *,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    out_size: Pair,
    relu: bool = True,
    local_size: int = 0,
    alpha: float = 1.0,
    beta: float = 0.75,
    k: float = 1.0,
    groups: int = 1,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """(output in ``groups`` parts (N, C / groups, H', W'), pooled values, taps): ``max_pool(input + bias)``, then LRN.

    The maximum of each window, plus bias (C,), rounded to the input's dtype: the same bits as the maximum of
    input + bias.  With ``relu`` max(., 0) of it.  Then, with ``local_size`` 5, LRN across all channels, parts or not;
    with 0 none, and ``pooled`` is an empty tensor.  Pooled values and taps (uint8: which place of its window, row by
    row, is the maximum; 255 where relu gives 0) are for the gradient; they are one tensor (N, C, H', W') each.  Where
    input + bias rounds several elements of a window to the same maximum, the tap is that of the largest before it.

    input: parts (N, C / parts, H, W), float32, float16 or bfloat16, on the CPU also float64; dense channels_last parts
    are taken as they are.  bias: float32 or the input's dtype.  On CUDA, channels of a part (of either side) that are
    a multiple of 8 (float32: 4) go at the memory's speed.  ValueError as in ``max_pool`` and ``bias_relu_parts``, and
    for an LRN that ``takes_norm`` does not name.
    """
    channels = check_parts("pool_parts", "input", input, groups)
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f"pool_parts: bias is {tuple(bias.shape)}; expected ({channels},)")
    _check_norm("pool_parts", local_size, beta)
    _check_window("pool_parts", input[0].shape[2:], (kernel, stride, padding, out_size))
    arguments = (bias, kernel, stride, padding, out_size, relu, local_size, alpha, beta, k, groups)
    if not HAS_KERNELS:
        return reference(input, *arguments)
    result: tuple[list[Tensor], Tensor, Tensor] = torch.ops.caffe_compat.pool_parts(list(input), *arguments)
    return result


def pool_parts_backward(
    grad: Parts,
    pooled: Tensor,
    tap: Tensor,
    size: Pair,
    *,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    local_size: int = 0,
    alpha: float = 1.0,
    beta: float = 0.75,
    k: float = 1.0,
    groups: int = 1,
) -> tuple[list[Tensor], Tensor]:
    """(the input's gradient in ``groups`` parts (N, C / groups, H, W), the bias's (C,)) of ``pool_parts``.

    grad: that of the output, in any number of parts and any strides; pooled and tap as ``pool_parts`` returned them
    (pooled is not read with ``local_size`` 0); ``size`` = (H, W).  The bias's gradient is float32 (float64 for
    float64), the same bits in every run.  Errors as ``pool_parts``.
    """
    channels = check_parts("pool_parts_backward", "grad", grad, groups)
    if tap.shape != whole_shape(grad) or tap.dtype != torch.uint8:
        raise ValueError(
            f"pool_parts_backward: tap is {tap.dtype} {tuple(tap.shape)}; expected torch.uint8 {whole_shape(grad)}"
        )
    if local_size and (pooled.shape != tap.shape or pooled.dtype != grad[0].dtype):
        raise ValueError(
            f"pool_parts_backward: pooled is {pooled.dtype} {tuple(pooled.shape)}; "
            f"expected {grad[0].dtype} {whole_shape(grad)}, of {channels} channels"
        )
    _check_norm("pool_parts_backward", local_size, beta)
    _check_window("pool_parts_backward", size, (kernel, stride, padding, tap.shape[2:]))
    arguments = (*size, kernel, stride, padding, local_size, alpha, beta, k, groups)
    if not HAS_KERNELS:
        return backward_reference(grad, pooled, tap, *arguments)
    result: tuple[list[Tensor], Tensor] = torch.ops.caffe_compat.pool_parts_backward(
        list(grad), pooled, tap, *arguments
    )
    return result


def _check_norm(operator: str, local_size: int, beta: float) -> None:
    if not takes_norm(local_size, beta):
        raise ValueError(
            f"{operator}: local_size is {local_size}, beta {beta}; expected local_size 5 (or 0: no LRN) and beta 0.5, "
            "0.75 or 1"
        )


def _check_window(operator: str, size: Pair, pairs: Window) -> None:
    kernel, stride, padding, out_size = pairs
    window = f"kernel {tuple(kernel)}, stride {tuple(stride)}, padding {tuple(padding)}, out_size {tuple(out_size)}"
    for i in (0, 1):
        if not (kernel[i] > padding[i] >= 0 and stride[i] > 0 and out_size[i] > 0):
            raise ValueError(
                f"{operator}: {window}; expected kernel, stride and size of at least 1, padding below the kernel"
            )
        if (out_size[i] - 1) * stride[i] - padding[i] >= size[i]:
            raise ValueError(f"{operator}: the last window starts outside the input {tuple(size)} ({window})")
    if kernel[0] * kernel[1] > MOST_TAPS:
        raise ValueError(f"{operator}: {window}; expected at most {MOST_TAPS} taps")


def _taps(window: Window) -> list[tuple[int, slice, slice]]:
    """(number, rows, columns) of each tap in all windows, in an input padded by ``_pads``."""
    kernel, stride, _, out_size = window
    along = [[slice(t, t + (out_size[i] - 1) * stride[i] + 1, stride[i]) for t in range(kernel[i])] for i in (0, 1)]
    return [(number, rows, columns) for number, (rows, columns) in enumerate(product(*along))]


def _pads(size: Pair, window: Window) -> list[int]:
    """How many columns and rows to add before and after, so that all windows and the input lie inside."""
    kernel, stride, padding, out_size = window
    after = [max(0, (out_size[i] - 1) * stride[i] + kernel[i] - padding[i] - size[i]) for i in (0, 1)]
    return [padding[1], after[1], padding[0], after[0]]


def _pool(x: Tensor, window: Window, relu: bool) -> tuple[Tensor, Tensor]:
    """Maximum and winning tap of each window: csrc/pool/pool.h by the letter."""
    pads = _pads(x.shape[2:], window)
    values = functional.pad(x, pads, value=-torch.inf)
    inside = functional.pad(x.new_ones((1, 1, *x.shape[2:]), dtype=torch.bool), pads)
    best = x.new_full((*x.shape[:2], *window[3]), 0.0 if relu else -torch.inf)
    tap = torch.full(best.shape, NO_TAP, dtype=torch.uint8, device=x.device)
    for number, rows, columns in _taps(window):
        value = values[:, :, rows, columns]
        wins = (value > best) | value.isnan()
        if not relu:
            wins |= tap == NO_TAP
        wins &= inside[:, :, rows, columns]
        best, tap = torch.where(wins, value, best), torch.where(wins, number, tap)
    return best, tap


@extension.cpu_kernel("pool_parts")
def reference(input: Parts, bias: Tensor | None, *arguments: Any) -> tuple[list[Tensor], Tensor, Tensor]:
    """``pool_parts`` in plain PyTorch, with the operator's own arguments."""
    kernel, stride, padding, out_size, relu, local_size, *norm, groups = arguments
    pooled, tap = _pool(join(input), (kernel, stride, padding, out_size), relu and bias is None)
    if bias is not None:
        pooled = add_bias(pooled, bias)
        if relu:
            tap = tap.masked_fill(pooled <= 0, NO_TAP)
            pooled = torch.relu(pooled)
    tap = tap.contiguous(memory_format=torch.channels_last)
    if local_size == 0:
        return split(pooled, groups), pooled.new_empty(0), tap
    wide = pooled.to(wide_dtype(pooled.dtype))
    output = lrn_reference(wide, local_size, *norm).to(pooled.dtype)
    return split(output, groups), pooled.contiguous(memory_format=torch.channels_last), tap


def lrn_gradient(grad: Tensor, x: Tensor, *, local_size: int, alpha: float, beta: float, k: float) -> Tensor:
    """The gradient of LRN: dy scale^-beta - 2 alpha beta / local_size x (sum of dy y / scale in the window)."""
    reach = local_size // 2

    def window_sum(values: Tensor) -> Tensor:
        return functional.pad(values, (0, 0, 0, 0, reach, reach)).unfold(1, local_size, 1).sum(-1)

    scale = k + alpha / local_size * window_sum(x * x)
    term = grad * scale**-beta
    return term - 2 * alpha / local_size * beta * x * window_sum(term * x / scale)


@extension.cpu_kernel("pool_parts_backward")
def backward_reference(grad: Parts, pooled: Tensor, tap: Tensor, *arguments: Any) -> tuple[list[Tensor], Tensor]:
    """``pool_parts_backward`` in plain PyTorch, with the operator's own arguments.

    Each tap's gradients go back to where it lies.
    """
    height, width, kernel, stride, padding, local_size, alpha, beta, k, groups = arguments
    dtype = grad[0].dtype
    wide = join(grad).to(wide_dtype(dtype))
    if local_size:
        wide = lrn_gradient(wide, pooled.to(wide.dtype), local_size=local_size, alpha=alpha, beta=beta, k=k)
    window = (kernel, stride, padding, tap.shape[2:])
    left, right, top, bottom = _pads((height, width), window)
    padded = wide.new_zeros((*tap.shape[:2], top + height + bottom, left + width + right))
    for number, rows, columns in _taps(window):
        padded[:, :, rows, columns] += torch.where(tap == number, wide, 0)
    input_grad = padded[:, :, top : top + height, left : left + width].to(dtype)
    return split(input_grad, groups), torch.where(tap == NO_TAP, 0, wide).sum((0, 2, 3))


@extension.fake_kernel("pool_parts")
def _fake(input: Parts, bias: Tensor | None, *arguments: Any) -> tuple[list[Tensor], Tensor, Tensor]:
    out_size, local_size, groups = arguments[3], arguments[5], arguments[-1]
    n, c, _, _ = whole_shape(input)
    shape = (n, c, *out_size)
    tap = torch.empty(shape, dtype=torch.uint8, device=input[0].device, memory_format=torch.channels_last)
    pooled = empty_parts(input[0], shape, 1)[0] if local_size else input[0].new_empty(0)
    return empty_parts(input[0], shape, groups), pooled, tap


@extension.fake_kernel("pool_parts_backward")
def _backward_fake(
    grad: Parts, pooled: Tensor, tap: Tensor, height: int, width: int, *arguments: Any
) -> tuple[list[Tensor], Tensor]:
    n, c, _, _ = tap.shape
    sums = grad[0].new_empty((c,), dtype=wide_dtype(grad[0].dtype))
    return empty_parts(grad[0], (n, c, height, width), arguments[-1]), sums
