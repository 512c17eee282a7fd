"""Convolution for training on a CPU: fewer multiplications than the definition asks for.

N C H W in shape comments: batch, channels, height, width.
"""

from typing import Any

import torch
from torch import Tensor

from caffe_compat import extension
from caffe_compat.ops.conv import reference
from caffe_compat.ops.conv_window import ConvWindow, Sizes
from caffe_compat.ops.torch_conv import torch_conv

HAS_KERNELS = extension.load() is not None

# The tiles of Winograd's filtering: none, F(2x2, 3x3), and F(4x4, 3x3) and F(2x2, 5x5) too.
LARGEST_TILES = (0, 4, 6)


def fast_conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
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
    any other is copied.  The weight and its gradient are contiguous, as in a caffemodel.  Without the extension the
    plain twin of ``conv`` runs, which takes any dtype and device.

    Kernels of 3x3 and 5x5 with stride 1 are computed by Winograd's minimal filtering where ``largest_tile`` allows it,
    it saves multiplications, and a group has 8 channels and outputs or more (5x5: 16).  It computes m x m
    outputs of an r x r kernel from (m + r - 1)^2 products a channel, y = A^T [(G w G^T) * (B^T x B)] A, and the
    gradients by the same matrices transposed.

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
    window = ConvWindow.per_axis(2, stride=stride, padding=padding, dilation=dilation, groups=groups)
    if HAS_KERNELS:
        output: Tensor = torch.ops.caffe_compat.conv_fast(input, weight, bias, *window, relu, largest_tile)
        return output
    return reference(input, weight, bias, window, relu=relu).contiguous(memory_format=torch.channels_last)


def _empty(like: Tensor, *sizes: int) -> Tensor:
    return like.new_empty(sizes).to(memory_format=torch.channels_last)


@extension.fake_kernel("conv_fast")
def _conv_fast_fake(input: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Tensor:
    *window, _relu, _largest_tile = arguments
    sizes = ConvWindow.from_arguments(*window).output_size(input.shape, weight.shape)
    return _empty(input, input.shape[0], weight.shape[0], *sizes)


@extension.plain_twin("conv_fast")
def _conv_fast_plain(input: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Tensor:
    *window, relu, _largest_tile = arguments
    y = torch_conv(input, weight, bias, ConvWindow.from_arguments(*window))
    return y.relu() if relu else y


@extension.fake_kernel("conv_fast_input_grad")
def _input_grad_fake(grad: Tensor, weight: Tensor, height: int, width: int, *arguments: Any) -> Tensor:
    *window, _largest_tile = arguments
    channels = weight.shape[1] * ConvWindow.from_arguments(*window).groups
    return _empty(grad, grad.shape[0], channels, height, width)


@extension.fake_kernel("conv_fast_weight_grad")
def _weight_grad_fake(grad: Tensor, input: Tensor, kernel_h: int, kernel_w: int, *arguments: Any) -> Tensor:
    *window, _largest_tile = arguments
    channels = input.shape[1] // ConvWindow.from_arguments(*window).groups
    return grad.new_empty((grad.shape[1], channels, kernel_h, kernel_w))
