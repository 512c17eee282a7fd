"""Convolution for training on a CPU: fewer multiplications than the definition asks for.

N C H W in shape comments: batch, channels, height, width.
"""

from typing import Any, NoReturn

import torch
from torch import Tensor

from caffe_compat import extension
from caffe_compat.ops.conv import Sizes, _gradients, _needed, _per_axis
from caffe_compat.ops.conv import _reference as _conv_reference
from caffe_compat.ops.conv_choice import output_size

extension.load()

# The tiles of Winograd's filtering: none, F(2x2, 3x3), and F(4x4, 3x3) and F(2x2, 5x5) too.
LARGEST_TILES = (0, 4, 6)


def fast_conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    relu: bool = False,
    largest_tile: int = 6,
) -> Tensor:
    """Cross-correlation of input with weight, plus bias, and max(0, it) with ``relu``: float32 on the CPU.

    input (N, C, H, W), weight (outputs, C / groups, kernel_h, kernel_w), bias (outputs,).  The result is
    (N, outputs, H', W') in channels_last, as is the gradient of the input; input in channels_last is read as it lies,
    any other is copied.  The weight and its gradient are contiguous, as in a caffemodel.

    Kernels of 3x3 and 5x5 with stride 1 are computed by Winograd's minimal filtering where ``largest_tile`` allows it
    and it saves multiplications.  It computes m x m outputs of an r x r kernel from (m + r - 1)^2 products a channel,
    y = A^T [(G w G^T) * (B^T x B)] A, and the gradients by the same matrices transposed.

    ``largest_tile`` 0 turns this off, 4 allows F(2x2, 3x3), 6 also F(4x4, 3x3) and F(2x2, 5x5).  Largest errors against
    float64 on normal numbers, relative to the largest value, conv2 to conv5 of CaffeNet
    (benchmarks/bench_fastconv.py): F(2x2, 3x3) 8e-7, F(2x2, 5x5) 2.5e-6, F(4x4, 3x3) 5e-6; oneDNN with channels_last
    input 2.5e-6, with contiguous input 7e-7 (2.5e-6 for the gradient of the weight).

    An infinite or NaN input reaches all outputs of its tiles, not only those whose window holds it.  Images of up to 4
    channels in one group (the first layer of a net) are multiplied by rows of the kernel; all else goes to oneDNN, as
    does everything on a machine without AVX2.  Repeated calls give the same bits, with any number of threads where the
    kernels are ours.

    Sources: S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and S. Gray, Fast Algorithms for
    Convolutional Neural Networks, CVPR 2016.  ValueError for shapes that do not fit and for another ``largest_tile``,
    TypeError for another dtype.  Not twice differentiable.
    """
    if largest_tile not in LARGEST_TILES:
        raise ValueError(f"fast_conv: largest_tile is {largest_tile}; expected one of {LARGEST_TILES}")
    window = [_per_axis(n, v, 2) for n, v in (("stride", stride), ("padding", padding), ("dilation", dilation))]
    return torch.ops.caffe_compat.conv_fast(input, weight, bias, *window, groups, relu, largest_tile)


def _reference(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    relu: bool = False,
) -> Tensor:
    """``fast_conv`` by the definition, in any dtype."""
    result = _conv_reference(input, weight, bias, stride, padding, dilation, groups)
    return result.relu() if relu else result


def _empty(like: Tensor, *sizes: int) -> Tensor:
    return like.new_empty(sizes).to(memory_format=torch.channels_last)


@torch.library.register_fake("caffe_compat::conv_fast")
def _conv_fast_fake(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    relu: bool,
    largest_tile: int,
) -> Tensor:
    sizes = output_size(input.shape, weight.shape, (stride, padding, dilation, groups))
    return _empty(input, input.shape[0], weight.shape[0], *sizes)


@torch.library.register_fake("caffe_compat::conv_fast_input_grad")
def _input_grad_fake(
    grad: Tensor, weight: Tensor, height: int, width: int, stride: Any, padding: Any, dilation: Any, groups: int, _: int
) -> Tensor:
    return _empty(grad, grad.shape[0], weight.shape[1] * groups, height, width)


@torch.library.register_fake("caffe_compat::conv_fast_weight_grad")
def _weight_grad_fake(
    grad: Tensor,
    input: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    _: int,
) -> Tensor:
    return grad.new_empty((grad.shape[1], input.shape[1] // groups, kernel_h, kernel_w))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *arguments, relu, largest_tile = inputs
    operands = _needed(ctx, (*arguments, largest_tile))
    ctx.save_for_backward(*operands, *([output] if relu else []))


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    ops = torch.ops.caffe_compat
    return *_gradients(ctx, grad, ops.conv_fast_input_grad, ops.conv_fast_weight_grad), *[None] * 6


def _refuse_double_backward(ctx: Any, *grads: Tensor) -> NoReturn:
    raise RuntimeError("fast_conv is not twice differentiable; use torch.nn.functional.conv2d where that is needed")


torch.library.register_autograd("caffe_compat::conv_fast", _backward, setup_context=_save)
torch.library.register_autograd("caffe_compat::conv_fast_input_grad", _refuse_double_backward)
torch.library.register_autograd("caffe_compat::conv_fast_weight_grad", _refuse_double_backward)
